"""Every parser under whatever hypothesis thinks of: what is sound comes back, all else is an InputError."""

import contextlib
import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tiny import stack

from dbn.cli.command_line import parse
from dbn.cli.config_files import read_config_file
from dbn.cli.options import options_of
from dbn.config.finetuning import FinetuneConfig
from dbn.config.pretraining import PretrainConfig
from dbn.data.readers import read_table
from dbn.errors import InputError
from dbn.runs.folder import RunFolder
from dbn.runs.weights import load
from dbn.storage.files import atomic_write
from dbn.storage.npz import read_arrays
from dbn.storage.tensors import load_state, pack, tensor_bytes, unpack

counts = pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])


def prove(strategy: st.SearchStrategy[Any], check: Callable[[Any], object], count: int) -> None:
    """`check` holds for so many examples, the same ones every time."""

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def holds(example: Any) -> None:
        check(example)

    holds()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
NAMES = [f"--{name}" for config in (PretrainConfig, FinetuneConfig) for name in options_of(config)]
WORDS = st.sampled_from(
    [*NAMES, "--config", "--no-resume", "-x", "0", "1", "500", "0.1:0", "1,3@2", "sgd", "pt", "dbn"]
)


@counts
@pytest.mark.parametrize("config", [PretrainConfig, FinetuneConfig])
def test_command_lines(config: type, count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def check(tokens: list[str]) -> None:
        err = io.StringIO()
        try:
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                made = parse(config, tokens, description="")
        except SystemExit as stop:
            said = err.getvalue()
            assert (stop.code == 2 and said.count("\n") == 1) or {"-h", "--help"} & set(tokens)  # noqa: PT017
        else:
            assert isinstance(made, config)

    prove(st.lists(WORDS | st.text(max_size=8), max_size=8), check, count)


@counts
def test_files_of_options(count: int, tmp_path: Path) -> None:
    file, known = tmp_path / "a.yaml", options_of(PretrainConfig)

    def check(content: bytes) -> None:
        file.write_bytes(content)
        with contextlib.suppress(InputError):
            assert set(read_config_file(file, known)) <= set(known)
        (tmp_path / "config.yaml").write_bytes(content)
        with contextlib.suppress(InputError):
            assert isinstance(RunFolder(tmp_path).read_config(), dict)

    keys = st.sampled_from([name.replace("-", "_") for name in known])
    written = st.dictionaries(keys | st.text(max_size=5), JSON, max_size=5).map(yaml.safe_dump)
    text = st.text(alphabet="abs:-[]{}&*!?|>#%@`\"' \n\t0129.,_~", max_size=60)
    prove(st.binary(max_size=60) | (written | text).map(str.encode), check, count)


@counts
def test_csv_comes_back(count: int, tmp_path: Path) -> None:
    """Numbers and labels, however they are quoted."""

    def check(rows: list[tuple[float, float, str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["a", "b", "kind"])
        writer.writerows(rows)
        (tmp_path / "t.csv").write_bytes(text.getvalue().encode())
        read = read_table(tmp_path / "t.csv", "kind")
        assert read.train.x.tolist() == [[np.float32(a), np.float32(b)] for a, b, _ in rows]
        assert read.train.y is not None
        assert [read.classes[code] for code in read.train.y] == [label for _, _, label in rows]

    number = st.floats(width=32, allow_nan=False, allow_infinity=False)
    label = st.text(alphabet="abcäß ,\"'\n", min_size=1, max_size=6).filter(str.strip).map(lambda text: "c" + text)
    prove(st.lists(st.tuples(number, number, label), min_size=1, max_size=9), check, count)


@counts
def test_any_text_as_csv(count: int, tmp_path: Path) -> None:
    def check(content: bytes) -> None:
        for column in (None, "b"):
            with contextlib.suppress(InputError):
                (tmp_path / "t.csv").write_bytes(content)
                read = read_table(tmp_path / "t.csv", column)
                assert np.isfinite(read.train.x).all()
                assert (read.train.y is None) == (column is None)

    cells = st.sampled_from(["", "1", "-2.5", "1e400", "nan", "x", '"', '"1"', "a", "b", " ", "1_0", "\0", "٣", "\x1b"])
    lines = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=5).map("\n".join)
    headed = lines.map(lambda text: "a,b\n" + text)
    prove(st.binary(max_size=50) | (lines | headed).map(str.encode), check, count)


@counts
def test_arrays_come_back(count: int, tmp_path: Path) -> None:
    """Of every type that numpy saves without pickle, in either order, packed and not."""

    def plain(file: io.BytesIO, x: Any) -> None:
        np.save(file, x, False)

    def check(example: tuple[Any, bool, bool]) -> None:
        array, is_packed, is_fortran = example
        array = np.asfortranarray(array) if is_fortran else array
        for save in (np.savez_compressed if is_packed else np.savez, plain):
            file = io.BytesIO()
            save(file, x=array)
            read, names = read_arrays(file, ("x", "y"))
            assert names == ["x"]
            assert (read["x"].dtype, read["x"].shape) == (array.dtype, array.shape)
            assert read["x"].tobytes() == array.tobytes()
            path = tmp_path / ("t.npz" if save is not plain else "t.npy")
            path.write_bytes(file.getvalue())
            with contextlib.suppress(InputError):
                read_table(path)

    dtypes = npst.scalar_dtypes().filter(lambda dtype: dtype.itemsize > 0)
    arrays = npst.arrays(dtypes, npst.array_shapes(min_dims=0, max_dims=4, max_side=4))
    prove(st.tuples(arrays, st.booleans(), st.booleans()), check, count)


@counts
def test_any_metadata(count: int, tmp_path: Path) -> None:
    """With a checksum that fits: a loaded stack is sound, a loaded state holds what was described."""
    tensors = dict(stack().state_dict())
    sound = stack().description()
    place = st.sampled_from([*sound, "format", "sum", "state"])

    def check(example: tuple[dict[str, Any], dict[str, Any], bool]) -> None:
        more, changed, is_based = example
        description = {**(sound if is_based else {}), **more, **changed}
        atomic_write(tmp_path / "a", tensor_bytes(tensors, description))
        with contextlib.suppress(InputError):
            loaded = load(tmp_path / "a")
            assert loaded.sizes == [36, 7, 5]
            assert math.isfinite(loaded.scaling.divisor)
        with contextlib.suppress(InputError):
            load_state(tmp_path / "a")

    prove(
        st.tuples(st.dictionaries(st.text(max_size=5), JSON), st.dictionaries(place, JSON), st.booleans()), check, count
    )


@counts
def test_states_come_back(count: int) -> None:
    leaves = JSON | st.floats() | st.integers(0, 3).map(lambda n: torch.arange(n))
    keys = st.integers() | st.text(max_size=4)
    states = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner, inner),
        max_leaves=8,
    )

    def check(state: Any) -> None:
        tensors, skeleton = pack(state)
        assert repr(unpack(tensors, json.loads(json.dumps(skeleton)))) == repr(state)

    prove(states, check, count)
