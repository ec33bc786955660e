"""dbn.pretrain and dbn.train_rbm: options, callback, history."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from tiny import pictures

import dbn
from dbn.config.pretraining import Pretraining
from dbn.errors import InputError
from dbn.pretraining.options import PretrainingOptions

X = pictures()[0]
SMALL: PretrainingOptions = {"epochs": 3, "batch_size": 40, "learning_rate": 0.05}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(stack: dbn.DBN) -> list[torch.Tensor]:
    return list(stack.state_dict().values())


def same(a: dbn.DBN, b: dbn.DBN) -> bool:
    return all(x.equal(y) for x, y in zip(weights(a), weights(b), strict=True))


def test_the_callback_gets_every_line_of_metrics(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    stack = dbn.pretrain(X, hidden=[7, 5], run=tmp_path / "run", callback=records.append, measure_every=2, **SMALL)
    assert records == lines(tmp_path / "run") == stack.history
    assert [(record["layer"], record["epoch"]) for record in records] == [(n, e) for n in (1, 2) for e in (1, 2, 3)]
    again: list[dict[str, Any]] = []
    options: Any = {"resume": True, "callback": again.append, "measure_every": 2}
    assert dbn.pretrain(X, hidden=[7, 5], run=tmp_path / "run", **options, **SMALL).history == records
    assert again == []  # it was complete
    assert dbn.load(tmp_path / "run").history == []


def test_a_history_needs_no_folder() -> None:
    records: list[dict[str, Any]] = []
    stack = dbn.pretrain(X, hidden=20, callback=records.append, **SMALL)
    assert stack.sizes == [36, 20]
    assert stack.history == records
    assert len(records) == 3
    records[0].clear()
    assert stack.history[0]["epoch"] == 1  # a dict of its own


def test_what_is_not_finite_is_none_as_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dbn.pretraining.monitor import LayerMonitor

    monkeypatch.setattr(LayerMonitor, "metrics", lambda self, epoch: {"kl": float("nan")})
    stack = dbn.pretrain(X, hidden=5, **SMALL)
    assert [record["kl"] for record in stack.history] == [None] * 3
    assert dbn.pretrain(X, hidden=5, run=tmp_path / "run", **SMALL).history[0]["kl"] is None


@pytest.mark.parametrize("place", [(1, 2), (2, 1), (2, 3)])
def test_a_callback_that_raises_ends_the_run_resumably(place: tuple[int, int], tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if (record["layer"], record["epoch"]) == place:
            raise ZeroDivisionError

    seen: list[dict[str, Any]] = []
    with pytest.raises(ZeroDivisionError):
        dbn.pretrain(X, hidden=[7, 5], run=tmp_path / "run", callback=stop, estimator="pcd", **SMALL)
    assert (lines(tmp_path / "run")[-1]["layer"], lines(tmp_path / "run")[-1]["epoch"]) == place
    options: Any = {"run": tmp_path / "run", "resume": True, "callback": seen.append, "estimator": "pcd"}
    resumed = dbn.pretrain(X, hidden=[7, 5], **options, **SMALL)
    assert [(record["layer"], record["epoch"]) for record in seen] == [
        each for each in [(n, e) for n in (1, 2) for e in (1, 2, 3)] if each > place
    ]
    whole = dbn.pretrain(X, hidden=[7, 5], estimator="pcd", **SMALL)
    assert same(resumed, whole)
    assert [each["epoch"] for each in resumed.history] == [1, 2, 3, 1, 2, 3]


def test_train_rbm_is_a_stack_of_one_layer(tmp_path: Path) -> None:
    rbm = dbn.train_rbm(X, hidden=9, estimator="pcd", run=tmp_path / "run", seed=4, **SMALL)
    stack = dbn.pretrain(X, hidden=[9], estimator="pcd", seed=4, **SMALL)
    assert rbm.weight.equal(stack.layers[0].weight)
    assert dbn.load(tmp_path / "run").layers[0].weight.equal(rbm.weight)
    real = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    assert dbn.train_rbm(real, hidden=3, visible="gaussian", epochs=1).visible.kind == "gaussian"


def test_an_unknown_option_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"^dbn.pretrain has no option 'epochz', did you mean 'epochs'\?$"):
        dbn.pretrain(X, epochz=1)  # type: ignore[call-arg]


# Types


def parts(kind: Any) -> set[Any]:
    """The types of single values, None, and whether several may be given."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return set().union(*map(parts, inside))
    if origin is Mapping:  # {"age": "gaussian"} for "age=gaussian"
        return set()
    if origin in (tuple, Sequence):
        return {"several"} | parts(inside[0])
    if origin is Mapping:  # as NAME=VALUE on the command line
        return {"several", *inside}
    return {kind}


def test_options_are_the_fields_of_the_configuration() -> None:
    typed, config = get_type_hints(PretrainingOptions), get_type_hints(Pretraining)
    assert list(typed) != []
    assert set(typed) == {each.name for each in fields(Pretraining)} - {"hidden"}
    for name, kind in typed.items():
        assert parts(kind) == parts(config[name]), name


@pytest.mark.slow
def test_mypy_refuses_options_that_are_mistyped(tmp_path: Path) -> None:
    code = """import torch
import dbn

x = torch.rand(50, 8)
dbn.pretrain(x, hidden=[5, 4], epochs=(1, 2), learning_rate="0.1:0", hidden_units="gaussian", penalty=["l1"], seed=1)
dbn.train_rbm(x, hidden=5, estimator="pcd", callback=print)
dbn.pretrain(x, epochz=1)
dbn.pretrain(x, epochs="ten")
dbn.train_rbm(x, batch_size=[1])
dbn.pretrain(x, callback=1)
"""
    (tmp_path / "use.py").write_text(code)
    root = Path(dbn.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml"), "use.py"]
    result = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(root), "PATH": ""}, capture_output=True, text=True, timeout=600
    )
    wrong = {
        int(line.split(":")[1]) for line in result.stdout.splitlines() if line.startswith("use.py") and "error" in line
    }
    assert wrong == {7, 8, 9, 10}, result.stdout + result.stderr


def test_one_rbm_has_one_number_of_hidden_units() -> None:
    with pytest.raises(InputError, match=r"hidden must be one number of units, not \[3, 4\]"):
        dbn.train_rbm(torch.rand(30, 5), hidden=[3, 4])  # type: ignore[arg-type]
