"""The script that checks a GPU, rehearsed without one."""

import logging
from pathlib import Path

import pytest
import torch

from dbn.benchmarks import same_bytes
from dbn.cli.command_line import run_script
from dbn.training.interrupts import Stopped

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    import check_gpu


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["check_gpu.py", *words])
    try:
        run_script(check_gpu.main, check_gpu.CheckConfig, "")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("cd", "pt", "average", "tf32")
    monkeypatch.setattr(check_gpu, "SETTINGS", {name: check_gpu.SETTINGS[name] for name in few})
    monkeypatch.setattr(check_gpu, "SMALL", check_gpu.SMALL | {"hidden": (8,)})
    monkeypatch.setattr(check_gpu, "WIDTH", 12)
    monkeypatch.setattr(
        check_gpu,
        "CHECKS",
        [check_gpu.same_bytes, check_gpu.as_on_the_cpu, check_gpu.annealing, check_gpu.finetuning, check_gpu.times],
    )


@pytest.mark.usefixtures("small")
def test_a_rehearsal_goes_through_what_needs_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split("  ")[0].strip(): line for line in lines}
    checked = ["same bytes: cd", "same bytes: pt", "same bytes: average", "as on the CPU: cd", "as on the CPU: average"]
    assert [name for name in found if name.startswith(("same", "as on"))] == checked
    assert all(" ok " in found[name] for name in [*checked, "AIS against the exact log Z"])
    assert "skipped" in found["times of a step"]
    assert "skipped" in found["fine-tuning, batch 100"]


@pytest.mark.usefixtures("small")
def test_compiled_steps_are_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbn.compiled.by_inductor", lambda graph, tensors: graph)
    monkeypatch.setattr(check_gpu, "COMPILED", ("cd", "average"))
    monkeypatch.setattr("dbn.compiled._said", set())
    lines = [*check_gpu.compiled_steps(torch.device("cpu"), 0), *check_gpu.compiled_times(torch.device("cpu"), 0)]
    assert [(line.what, line.result) for line in lines] == [
        ("compiled: cd", "ok"), ("compiled: average", "ok"), ("times of a compiled step", "skipped")
    ]  # fmt: skip
    monkeypatch.delattr("dbn.compiled.by_inductor")
    assert {line.result for line in check_gpu.compiled_steps(torch.device("cpu"), 0)} == {"FAILED"}


def test_chains_fine_tuning_and_resumed_runs_are_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    stopped = Stopped.__init__
    monkeypatch.setattr(Stopped, "__init__", lambda self, number: (ended.append(number), stopped(self, number))[1])
    few = ("AIS, gaussian", "tempered samples")
    monkeypatch.setattr(same_bytes, "TEMPERATURES", 70)
    monkeypatch.setattr(same_bytes, "CHAINS", {name: same_bytes.CHAINS[name] for name in few})
    monkeypatch.setattr(same_bytes, "FINETUNED", {"frozen at first": same_bytes.FINETUNED["frozen at first"]})
    lines = check_gpu.chains_and_finetuning(torch.device("cpu"), 0)
    assert [(line.what.partition(": ")[2], line.result) for line in lines] == [
        (name, "ok") for name in (*few, "fine-tuning, frozen at first", "fine-tuning", "evaluation")
    ]
    assert len(ended) == 2 * len(same_bytes.STOPS)


def test_runs_together_are_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("dropout, max-norm, average", "bf16")  # the latter for GPUs alone
    monkeypatch.setattr(same_bytes, "FINETUNED", {name: same_bytes.FINETUNED[name] for name in few})
    alike, study = check_gpu.together(torch.device("cpu"), 0)
    assert (alike.what, alike.result) == ("together as alone: dropout, max-norm, average, eager", "ok")
    assert float(alike.figure.split()[0]) > 0
    assert float(study.figure.partition("ratio ")[2].split()[0]) > 1
    monkeypatch.setattr(check_gpu, "NEAR", {"": 0.0})
    assert check_gpu.together(torch.device("cpu"), 0)[0].result == "FAILED"


def test_other_bytes_and_steps_that_are_not_captured_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter("112")

    def warns(device: torch.device, seed: int) -> str:
        logging.getLogger("dbn.capture").warning("a step is not captured")
        return ""

    monkeypatch.setattr(same_bytes, "FINETUNED", {})
    monkeypatch.setattr(same_bytes, "CHAINS", {"other": lambda *_: next(count), "warns": warns})
    monkeypatch.setattr(logging.getLogger("dbn.capture"), "propagate", False)
    monkeypatch.setattr(same_bytes, "resumed_alike", lambda *_: [])
    other, warned = check_gpu.chains_and_finetuning(torch.device("cpu"), 0)
    assert (other.result, warned.result, warned.figure) == ("FAILED", "FAILED", "a step is not captured")


@pytest.mark.usefixtures("small")
def test_what_is_wrong_is_a_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = iter(range(9))
    monkeypatch.setattr(check_gpu, "train", lambda made: str(next(count)))
    monkeypatch.setattr(check_gpu, "CHECKS", [check_gpu.same_bytes, check_gpu.as_on_the_cpu])
    monkeypatch.setattr(check_gpu, "as_on_the_cpu", None)
    assert run(monkeypatch, "--device", "cpu") == 1
    out = capsys.readouterr().out
    assert out.count("same bytes") == out.count("FAILED") - 1
    assert "StopIteration" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("check_gpu needs an NVIDIA GPU, and torch finds none here: use --device cpu for a rehearsal")
    )
