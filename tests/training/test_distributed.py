"""Two processes do what one does; a process that ends ends all."""

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import CHAINS, FINETUNING, NOISY, PRETRAINING, ROWS
from tiny import metrics, pictures, save_pictures
from torch import Tensor, distributed
from torch.testing import assert_close

from dbn.cli.command_line import run_script
from dbn.config.common import to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.config.pretraining import Pretraining
from dbn.data.cut import splits_from_arrays
from dbn.errors import InputError
from dbn.initializers.arms import parse_arm
from dbn.likelihood.gradient import Offsets, set_gradient
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.runs.resume import begin
from dbn.runs.weights import load
from dbn.storage.tensors import load_state
from dbn.training import distributed as ranks
from dbn.training.device import pick_device
from dbn.training.distributed import threads_each

HERE = Path(__file__).parents[1]
SCRIPTS = HERE.parent / "scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    """What `ranked.main` came to on each of two ranks."""
    ranked.stacked_so_far(folder / "begun")
    ended = process_group("main", str(folder), cwd=folder)
    assert [status for status, _ in ended] == [0, 0], "\n".join(said for _, said in ended)
    return [load_state(folder / f"rank-{rank}") for rank in range(2)]


def process_group(*words: str, cwd: Path) -> list[tuple[int, str]]:
    """Exit status and standard error of two ranks of `ranked.py`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "ranked.py"), *words],
            env=os.environ | meet | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(torch.equal(a, b)) if isinstance(a, Tensor) else a == b


def test_no_thread_outlives_the_group(two: list[dict[str, Any]], folder: Path) -> None:
    """As Python ends, a thread of gloo that lets go of a tensor aborts the process."""
    assert len(two) == 2
    for rank in range(2):
        assert "gloo" not in (folder / f"threads-{rank}").read_text()


# What is split


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 6, 100])
def test_shares_follow_each_other_and_are_nearly_equal(n: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(list(range(n))[ranks.shard(n)])
    assert [place for share in shares for place in share] == list(range(n))
    assert {len(share) for share in shares} <= {n // size, -(-n // size)}


@pytest.mark.parametrize("name", PRETRAINING)
def test_each_example_is_used_once_an_epoch_in_the_batches_of_one_process(name: str, two: list[dict[str, Any]]) -> None:
    alone = ranked.pretrained(PRETRAINING[name])["taken"]
    shares = [found[f"pretrained {name}"]["taken"] for found in two]
    for batch, first, second in zip(alone, *shares, strict=True):
        assert batch[:2] == first[:2] == second[:2]
        assert torch.equal(batch[2], torch.cat([first[2], second[2]]))
        assert 0 <= len(first[2]) - len(second[2]) <= 1
    for epoch in (1, 2):
        used = torch.cat([indices for share in shares for of, _, indices in share if of == epoch])
        assert torch.equal(used.sort().values, torch.arange(ROWS))


def test_ranks_draw_noise_of_their_own(two: list[dict[str, Any]]) -> None:
    for name in NOISY:
        first, second = (found[f"step {name}"]["negatives"] for found in two)
        n = min(len(first), len(second))
        assert (first[:n] != second[:n]).float().mean() > 0.3
    masks = [found["masks"] for found in two]
    assert (masks[0] != masks[1]).any()


# What is equal


@pytest.mark.parametrize("name", PRETRAINING)
def test_two_ranks_learn_what_one_does_without_noise(name: str, two: list[dict[str, Any]]) -> None:
    alone = ranked.pretrained(PRETRAINING[name])
    first, second = ({k: v for k, v in found[f"pretrained {name}"].items() if k != "taken"} for found in two)
    assert same(first, second)
    for what in first:
        assert_close(first[what], alone[what], rtol=1e-4, atol=2e-6)
    moved = [(value - alone["start"][name]).abs().max() for name, value in alone["rbm"].items()]
    assert max(moved) > 0.02  # by far more than rounding


@pytest.mark.parametrize("name", NOISY)
def test_the_gradient_is_that_of_all_examples_and_negatives_at_once(name: str, two: list[dict[str, Any]]) -> None:
    first, second = (found[f"step {name}"] for found in two)
    x, negatives = (torch.cat([share[part] for share in (first, second)]) for part in ("data", "negatives"))
    assert (len(x), len(negatives)) == (41, 41 if name == "cd" else CHAINS)
    made = ranked.trainer(batch_size=41, **NOISY[name])
    rbm = made.rbm
    assert same(dict(rbm.state_dict()), first["before"])
    offsets = None
    if made.offsets is not None:
        offsets = Offsets(made.offsets.visible, made.offsets.hidden)
    means = set_gradient(rbm, x, negatives, offsets=offsets)
    gradient = {name: parameter.grad for name, parameter in rbm.named_parameters()}
    for share in (first, second):
        assert_close(share["gradient"], gradient, rtol=1e-5, atol=1e-6)
        assert_close(share["means"], list(means), rtol=1e-5, atol=1e-6)
    assert same(first["gradient"], second["gradient"])


@pytest.mark.parametrize("name", ["pcd", "pt"])
def test_chains_are_split_and_gathered_for_any_number_of_ranks(name: str, two: list[dict[str, Any]]) -> None:
    given = ranked.chain_state(Pretraining(hidden=(9,), estimator=name, chains=CHAINS))  # type: ignore[arg-type]
    alone = ranked.chains(NOISY[name])
    first, second = (found[f"chains {name}"] for found in two)
    assert same(first, second)
    assert same(first["before"], given)
    assert first["told"] == alone["told"]
    assert {part: value.shape for part, value in first["after"].items()} == {
        part: value.shape for part, value in alone["after"].items()
    }
    # One process goes on with them, and two states differ where they have moved.
    made = ranked.trainer(batch_size=41, **NOISY[name])
    made.chains.load_state(first["after"])
    assert same(made.chains.state(), first["after"])
    assert (first["after"]["v"] != given["v"]).float().mean() > 0.05
    if name == "pt":
        assert torch.equal(first["after"]["swaps"][1], alone["after"]["swaps"][1])  # tried, by all chains together


@pytest.mark.parametrize("name", FINETUNING)
def test_two_ranks_fine_tune_as_one_does(name: str, two: list[dict[str, Any]]) -> None:
    alone = ranked.finetuned(FINETUNING[name])
    first, second = (found[f"finetuned {name}"] for found in two)
    assert same(first, second)
    assert first["best_epoch"] == alone["best_epoch"]
    assert len(first["history"]) == len(alone["history"])
    assert_close(first["history"], alone["history"], rtol=1e-5, atol=1e-6)
    assert_close(first["network"], dict(alone["network"]), rtol=1e-4, atol=1e-6)


def test_frozen_layers_stay_and_others_learn(two: list[dict[str, Any]]) -> None:
    start = dict(ranked.problem().network(parse_arm("xavier_uniform"), 0).state_dict())
    found = two[1]["finetuned frozen"]["network"]
    moved = {key: not torch.equal(found[key], start[key]) for key in start}
    assert moved == {key: key.startswith("4.") for key in start}
    assert not torch.equal(two[1]["finetuned frozen at first"]["network"]["0.weight"], start["0.weight"])


def test_a_comparison_is_that_of_one_process_and_goes_on(
    two: list[dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    assert same(two[0]["compared"], two[1]["compared"])
    assert same(two[0]["resumed"], two[1]["compared"])
    alone = ranked.compared(tmp_path / "alone")
    assert_close(two[0]["compared"], alone, rtol=1e-4, atol=1e-6)
    # As often as one process writes, and in the same places.
    assert len(metrics(folder / "compared")) == len(metrics(tmp_path / "alone"))
    assert not (folder / "compared" / "not here").exists()


def test_rank_0_writes_what_one_process_writes(two: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    assert same(two[0]["stacked"], two[1]["stacked"])
    written, run = load(folder / "stacked"), folder / "stacked"
    assert same(dict(written.state_dict()), two[0]["stacked"])
    ranked.stacked(tmp_path / "alone")
    assert [list(record) for record in metrics(run)] == [list(record) for record in metrics(tmp_path / "alone")]
    for made in (run, tmp_path / "alone"):
        assert sum(1 for _ in made.glob("events.*")) == 4  # a file a layer, one before and one after them


def test_a_finished_stack_of_two_is_one_of_any_number(two: list[dict[str, Any]], folder: Path) -> None:
    run = begin(folder / "stacked", to_dict(ranked.STACKED), resume=True, overwrite=False)
    state = run.load_checkpoint()
    assert state is not None
    assert state["chains"]["v"].shape == (CHAINS, 7)
    data = unlabeled(splits_from_arrays(pictures()[0]), ranked.STACKED, ranked.CPU)
    again = pretrain_stack(data, ranked.STACKED, run)
    assert same(dict(again.state_dict()), two[0]["stacked"])


def test_two_go_on_where_one_stopped(two: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    alone = ranked.stacked_to_the_end(tmp_path / "alone", resume=False)
    assert same(two[0]["continued"], two[1]["continued"])
    assert_close(two[0]["continued"], alone, rtol=1e-4, atol=1e-5)
    epochs = [
        [(record["layer"], record["epoch"]) for record in metrics(run)]
        for run in (folder / "begun", tmp_path / "alone")
    ]
    assert epochs[0] == epochs[1]


def test_states_reach_every_rank_bit_for_bit(two: list[dict[str, Any]]) -> None:
    alone = ranked.states()["received"]
    for found in two:
        assert same(found["states"]["received"], alone)
        assert found["states"]["received"]["strided"].dtype == torch.float32
        assert found["states"]["received"]["half"].dtype == torch.bfloat16
        assert found["states"]["refused"].startswith("the processes have different options or data")
    assert ranked.states()["refused"] == ""


# What it costs


def test_a_step_is_one_sum_of_the_gradient_and_the_means(two: list[dict[str, Any]]) -> None:
    visible, hidden = 36, 9
    numbers = hidden * visible + 2 * (visible + hidden)
    for found in two:
        assert found["exchanged"] == {"steps": 5, "bytes": [4 * numbers] * 5}
        assert found["threads"] == threads_each(2)
    assert ranked.exchanged()["bytes"] == []


def test_the_benchmark_of_ranks_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    words = "--sizes 20 10 --batch-size 5 --steps 2 --repeats 1 --device cpu"
    monkeypatch.setattr(sys, "argv", ["benchmark_ranks.py", *words.split()])
    runpy.run_path(str(SCRIPTS / "benchmark_ranks.py"), run_name="__main__")
    first, _, line = capsys.readouterr().out.splitlines()
    assert first.startswith("1 processes on cpu")
    assert line.split()[:3] == ["20-10", "5", "0.00"]


# What is refused


def several(monkeypatch: pytest.MonkeyPatch, rank: int = 0, size: int = 2) -> None:
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, str(value))


def test_what_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 8)
    with pytest.raises(InputError, match="--chains 7 cannot be shared by 8 processes: raise it, or start fewer"):
        ranked.trainer(estimator="pcd", chains=7)
    with pytest.raises(InputError, match="--batch-size 5 cannot be shared by 8 processes"):
        ranked.trainer(batch_size=5)
    with pytest.raises(InputError, match="--batch-size 6 cannot be shared by 8 processes"):
        ranked.problem(batch_size=6)
    with pytest.raises(InputError, match="--init batch_norm normalizes whole batches, which 8 processes share"):
        ranked.problem(init=("batch_norm",))


def test_devices_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    several(monkeypatch, rank=1)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="2 processes cannot share 0 GPUs"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("mps", "cuda:0"):
        with pytest.raises(InputError, match=f"--device {name} serves one process, not 2"):
            pick_device(name)


def test_scripts_for_one_process_refuse_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--run", "none"])
    monkeypatch.setattr(ranks, "_connection", distributed.HashStore())
    monkeypatch.setattr("os._exit", sys.exit)  # this process goes on
    with pytest.raises(SystemExit) as stop:
        run_script(lambda config: None, EvaluateConfig, "")
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err == "evaluate.py: error: this command runs in one process: start it without torchrun\n"
    )


def test_one_of_several_says_why_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.speaks()
    monkeypatch.setattr(ranks, "PATIENCE", timedelta(milliseconds=20))
    for order, patient in (((0, 1, 2), True), ((2, 0, 1), True), ((1, 2), False)):
        monkeypatch.setattr(ranks, "_connection", distributed.HashStore())
        spoke = []
        for rank in order:
            several(monkeypatch, rank, size=3)
            spoke.append(ranks.speaks(None if patient else ranks.RankLost("")))
        assert spoke == [True] + [False] * (len(order) - 1)


def test_other_errors_are_not_taken_for_a_lost_rank() -> None:
    with pytest.raises(RuntimeError, match="shapes"), ranks.naming_lost_ranks():
        torch.ones(2, 3) @ torch.ones(2, 3)


# How it ends


def test_a_killed_rank_ends_the_other_with_a_sentence_and_one_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "tiny.npz")
    words = "--dataset tiny.npz --hidden 9 6 --epochs 4 --estimator pt --chains 7 --temperatures 3 --run run"
    (status, said), (killed, _) = process_group("die", *words.split(), cwd=tmp_path)
    assert killed == -signal.SIGKILL
    assert status == 2
    assert re.findall("^pretrain.py: error: .*", said, re.MULTILINE) == [said.splitlines()[-1]]
    assert re.search("rank 0 of 2 has lost another, which ended .* then resume with --resume\n$", said)
    done = [(record["layer"], record["epoch"]) for record in metrics(tmp_path / "run")]
    assert done == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *words.split(), "--resume"])
    runpy.run_path(str(SCRIPTS / "pretrain.py"), run_name="__main__")
    done = [(record["layer"], record["epoch"]) for record in metrics(tmp_path / "run")]
    assert done == [(layer, epoch) for layer in (1, 2) for epoch in (1, 2, 3, 4)]
    assert load(tmp_path / "run").sizes == [36, 9, 6]


def test_torchrun_ends_with_one_sentence_of_ours(tmp_path: Path) -> None:
    save_pictures(tmp_path / "tiny.npz")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    result = subprocess.run(
        [*torchrun, str(SCRIPTS / "pretrain.py"), "--dataset", "tiny.npz", "--epochs", "1", "--run", "taken"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode != 0
    assert re.findall("^pretrain.py: .*", result.stderr, re.MULTILINE) == [
        "pretrain.py: error: taken exists already: continue it with --resume, replace it with --overwrite, or name "
        "another --run"
    ]
    assert "exitcode  : 2 " in result.stderr
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]
