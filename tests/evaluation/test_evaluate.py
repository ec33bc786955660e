"""scripts/evaluate.py as a user calls it, with good input and bad."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_pictures, stack
from torch import Tensor

from dbn.cli.commands.evaluate import COMMAND
from dbn.config.common import to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.errors import InputError
from dbn.evaluation.evaluate import evaluate
from dbn.evaluation.external_rbm import read_rbm
from dbn.likelihood.exact import log_likelihood, log_partition
from dbn.models.rbm import RBM
from dbn.runs.folder import RunFolder
from dbn.runs.weights import load, save_stack

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"
QUICK = "--ais 50 --chains 20"
BITS = (np.random.default_rng(3).random((50, 36)) < 0.4).astype(np.uint8)


def call(words: str, folder: Path) -> str:
    """The script in this process, for speed; what it prints. SystemExit as from the script."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["scripts/evaluate.py", *words.split()])
        COMMAND.run()
    return out.getvalue()


def rbm_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(0, 0.3, (7, 36)),
        "visible_bias": rng.normal(0, 0.3, 36),
        "hidden_bias": rng.normal(0, 0.3, 7),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path / "tiny.npz")
    save_pictures(tmp_path / "wide.npz", side=7)
    np.savez(tmp_path / "bits.npz", x=BITS)
    np.savez(tmp_path / "packed.npz", train=np.packbits(BITS, axis=1), test=np.packbits(1 - BITS, axis=1))
    np.savez(tmp_path / "rbm.npz", **rbm_arrays())
    np.savez(tmp_path / "keyless.npz", weight=np.zeros((7, 36)))
    np.savez(tmp_path / "turned.npz", **{**rbm_arrays(), "weight": np.zeros((36, 7))})
    np.savez(tmp_path / "nan.npz", **{**rbm_arrays(), "hidden_bias": np.full(7, np.nan)})
    big = {"weight": np.zeros((30, 36)), "visible_bias": np.zeros(36), "hidden_bias": np.zeros(30)}
    np.savez(tmp_path / "big.npz", **big)
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "afolder").mkdir()
    for name, sizes, binarize in (
        ("deep", (36, 7, 5), "fixed"),
        ("single", (36, 7), "sample"),
        ("grey", (36, 7), "none"),
    ):
        run = RunFolder.create(tmp_path / name, overwrite=False)
        run.write_config({"dataset": "tiny.npz", "binarize": binarize, "seed": 3})
        save_stack(run.path, stack(sizes=sizes))
    broken = stack()
    broken.layers[0].hidden.bias[2] = float("inf")
    run = RunFolder.create(tmp_path / "broken", overwrite=False)
    run.write_config({"dataset": "tiny.npz", "binarize": "fixed", "seed": 3})
    save_stack(run.path, broken)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "dbn.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 nonsense")
    return tmp_path


def exact(rbm: RBM, x: Tensor) -> float:
    return log_likelihood(rbm, x, log_partition(rbm)).mean().item()


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# Good input


def test_the_model_of_others_is_measured(folder: Path) -> None:
    out = call("--run rbm.npz --data packed.npz --exact --output new/found.json", folder)
    found = read(folder / "new" / "found.json")
    rbm = read_rbm(folder / "rbm.npz").layers[0]
    assert found["log_z"] == pytest.approx(log_partition(rbm))
    wanted = exact(rbm, torch.from_numpy(1 - BITS).float())
    assert found["test_log_likelihood"] == pytest.approx(wanted, abs=1e-4)
    assert f"{wanted:.2f}" in out
    assert "Test rows: the 50 of packed.npz." in out
    assert "AIS" not in out  # exact: there is no base model
    assert "bytes unpacked into 36 bits a row" in out
    assert out.endswith("The same figures are in new/found.json.\n")
    assert not (folder / "result.json").exists()


def test_without_a_place_for_it_nothing_is_written(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    out = call(f"--run rbm.npz --data bits.npz {QUICK}", folder)
    assert "test rows themselves, for want of training rows" in out
    assert "The same figures" not in out
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("run", ["single", "deep"])
def test_a_run_is_measured_on_its_own_data_and_keeps_the_result(run: str, folder: Path) -> None:
    out = call(f"--run {run} {QUICK}", folder)
    found = read(folder / run / "result.json")
    assert {"log_z", "log_z_interval", "test_log_likelihood", "test_bound"} <= set(found)
    assert (found["test_log_likelihood"] is None) == (run == "deep")
    assert (found["test_bound"] is None) == (run == "single")
    assert set(found["parts"]) == {"test", "valid", "train"}
    assert "as the run was trained" in out
    assert ("gain by layer 2" in out) == (run == "deep")
    assert f"{found['log_z']:.2f}" in out


def test_output_goes_elsewhere(folder: Path) -> None:
    call(f"--run single {QUICK} --output out.json", folder)
    assert not (folder / "single" / "result.json").exists()
    assert read(folder / "out.json")["temperatures"] == 50


def test_an_interval_without_an_end_is_null(folder: Path) -> None:
    call("--run single --ais 50 --chains 1 --no-reverse", folder)
    assert read(folder / "single" / "result.json")["log_z_interval"] == [None, None]


def test_the_script_itself_gives_the_same_bytes(folder: Path) -> None:
    words = f"--run deep {QUICK} --output"
    command = [sys.executable, "-W", "error", str(SCRIPT), *words.split(), "a.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    again = [*command[:-1], "b.json"]
    assert subprocess.run(again, cwd=folder, timeout=120, check=False).returncode == 0
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    call(f"--run deep {QUICK} --output c.json --seed 1", folder)
    assert read(folder / "c.json")["log_z"] != read(folder / "a.json")["log_z"]


def test_what_is_left_out_stands_in_the_options_as_what_it_comes_to() -> None:
    annealed, exact = (EvaluateConfig(run=Path("r"), exact=how) for how in (False, True))
    assert annealed.resolved() == {"ais": "published", "chains": 100}
    assert exact.resolved() == {"ais": None, "chains": None}
    assert EvaluateConfig(run=Path("r"), ais=30, chains=7).resolved() == {"ais": 30, "chains": 7}
    for config in (annealed, exact):
        assert to_dict(EvaluateConfig(**to_dict(config))) == to_dict(config)


def test_help_tells_the_schedules_apart(folder: Path) -> None:
    script = [sys.executable, str(SCRIPT), "--help"]
    text = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True).stdout
    said = " ".join(text.split())
    assert "published (14,501), quick (1,001), or a number, spaced as quick's (default: published)" in said


# Bad input

BAD: list[tuple[str, str]] = [
    ("--data bits.npz", "--run is required"),
    ("--run missing --data bits.npz", "there is no run folder or model file missing"),
    ("--run missing.npz --data bits.npz", "there is no run folder or model file missing.npz"),
    ("--run text.npz --data bits.npz", "text.npz is damaged or not a NumPy file"),
    ("--run afolder", "afolder holds no stack"),
    ("--run damaged", "damaged/dbn.safetensors is damaged"),
    ("--run broken", "rbms.0.hidden.bias holds values that are not finite"),
    ("--run keyless.npz --data bits.npz", "keyless.npz holds no array 'visible_bias'"),
    ("--run turned.npz --data bits.npz", "turned.npz: weight has shape .*: transpose it"),
    ("--run nan.npz --data bits.npz", "nan.npz: hidden_bias holds nan"),
    ("--run rbm.npz", "rbm.npz does not say what it was trained on: name examples with --data or --dataset"),
    ("--run rbm.npz --data missing.npz", "missing.npz cannot be read"),
    ("--run rbm.npz --data text.npz", "text.npz is damaged"),
    ("--run rbm.npz --data keyless.npz", "keyless.npz: there is no array 'x'"),
    ("--run rbm.npz --data wide.npz", "wide.npz has 49 values an example, but the model takes 36: give"),
    (
        "--run rbm.npz --data tiny.npz",
        "tiny.npz holds values other than 0, 1, .* --binarize threshold, sample or fixed",
    ),
    ("--run grey", "tiny.npz holds values other than 0, 1"),
    ("--run rbm.npz --dataset nothing", "there is no data set 'nothing'"),
    ("--run rbm.npz --data tiny.npz --binarize none", "--binarize must be one of threshold, sample, fixed"),
    ("--run big.npz --data bits.npz --exact", "states"),
    ("--run rbm.npz --data bits.npz --exact --ais quick", "--ais does not go with --exact"),
    ("--run rbm.npz --data bits.npz --exact --ais published", "--ais does not go with --exact"),
    ("--run rbm.npz --data bits.npz --chains 100 --exact", "--chains does not go with --exact"),
    ("--run rbm.npz --data bits.npz --no-reverse --exact", "--no-reverse does not go with --exact"),
    ("--run rbm.npz --data bits.npz --chains 0", "--chains must be a whole number of at least 1, not 0"),
    ("--run rbm.npz --data bits.npz --ais 1", "--ais must be a whole number of at least 2, not 1"),
    ("--run rbm.npz --data bits.npz --ais slow", "--ais must be"),
    ("--run rbm.npz --data bits.npz --seed -1", "--seed must be a whole number of at least 0"),
    ("--run rbm.npz --data bits.npz --device cuda:77", "--device cuda:77 is not available here"),
    (
        "--run rbm.npz --data bits.npz --output afolder",
        r"afolder cannot be written \(it is a folder\)",
    ),
    ("--run rbm.npz --data bits.npz --output text.npz/a.json", "text.npz cannot be made"),
    ("--run rbm.npz --data bits.npz --label-column y", "--label-column is for files with named columns"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_bad_input_ends_in_one_sentence_and_writes_nothing(
    words: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        call(words, folder)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert re.fullmatch(r"evaluate\.py: error: [^\n]*\n", err)
    assert re.search(sentence, err), err
    assert sorted(folder.rglob("*")) == before


# From Python


@pytest.mark.parametrize("words", ["--exact", QUICK, f"{QUICK} --no-reverse --seed 3 --binarize fixed"])
@pytest.mark.parametrize("model", ["single", "deep", "rbm.npz"])
def test_from_python_the_figures_are_those_of_the_script(model: str, words: str, folder: Path) -> None:
    rng = np.random.default_rng(1)
    test, train = ((rng.random((n, 36)) < 0.4).astype(np.uint8) for n in (20, 50))
    np.savez(folder / "both.npz", x=train, x_test=test)
    printed = call(f"--run {model} --data both.npz {words} --output out.json", folder)
    options: dict[str, Any] = {"exact": True} if "exact" in words else {"ais": 50, "chains": 20}
    if "seed" in words:
        options |= {"reverse": False, "seed": 3, "binarize": "fixed"}
    before, named = sorted(folder.rglob("*")), "the given data set"
    given = load(folder / model) if model == "deep" else folder / model
    found = evaluate(given, test, torch.from_numpy(train), **options)
    assert sorted(folder.rglob("*")) == before
    wanted = read(folder / "out.json")
    origin = [line.replace("both.npz", named) for line in wanted["origin"]]
    assert found.to_dict() == wanted | {"origin": origin}
    assert str(found) == printed.replace("both.npz", named).split("\n\nThe same figures")[0]
    assert (found.log_z, found.test_log_likelihood) == (wanted["log_z"], wanted["test_log_likelihood"])
    assert (list(found.log_z_interval), found.test_bound) == (wanted["log_z_interval"], wanted["test_bound"])
    assert found.warnings == wanted["warnings"]


def test_an_rbm_is_evaluated_as_it_is_and_stays_so() -> None:
    rbm = stack(sizes=(36, 7)).layers[0].train()
    found = evaluate(rbm, BITS.reshape(-1, 6, 6), exact=True)
    assert found.test_log_likelihood == pytest.approx(exact(rbm, torch.from_numpy(BITS).float()), abs=1e-4)
    assert rbm.training


def test_grey_levels_become_binary_as_a_run_was_trained_or_as_is_said(folder: Path) -> None:
    grey = np.random.default_rng(0).random((30, 36))
    options: dict[str, Any] = {"exact": True}
    as_trained = evaluate(folder / "single", grey, **options)
    assert as_trained.to_dict()["origin"][1].endswith("as the run was trained).")
    assert as_trained.log_z == evaluate(load(folder / "single"), grey, binarize="threshold", **options).log_z
    with pytest.raises(InputError, match=r"other than 0, 1, .*: say how to make them 0 or 1, binarize='threshold'"):
        evaluate(load(folder / "single"), grey, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exact": True, "ais": "quick"}, "^ais does not go with exact=True,"),
        ({"exact": True, "reverse": False}, "^reverse=False does not go with exact=True,"),
        ({"chains": 0}, "^chains must be a whole number of at least 1"),
        ({"binarize": "round"}, "^binarize must be one of threshold, sample, fixed"),
        ({"test": BITS[:, :30]}, "the given data set has 30 values an example, but the model takes 36"),
        ({"test": BITS.astype(str)}, "the given data set: x holds"),
        ({"test": BITS, "train": BITS[:, :30]}, "the given data set"),
        ({"model": torch.nn.Linear(36, 7)}, "^model must be an RBM, a DBN or the path of one, not Linear"),
        ({"model": "nowhere"}, "there is no run folder or model file nowhere"),
    ],
)
def test_errors_name_the_arguments(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(**{"model": stack(sizes=(36, 7)), "test": BITS, **options})
