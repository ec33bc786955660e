"""The comparison of starts from end to end, its interruptions, and what is said about it."""

import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import fields, replace
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import comparison, curves, events, metrics, splits, stack, steps
from tiny import result as result_of

from dbn.config.common import to_dict
from dbn.config.finetuning import Finetuning
from dbn.data.examples import labels_of
from dbn.errors import InputError
from dbn.finetuning import fits as module
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.problem import Problem
from dbn.finetuning.report import comparison_text, heading, notes, sentence, stuck_sentence, table
from dbn.finetuning.results import FitResult, TunedArm, check_fit_result
from dbn.finetuning.signal_propagation import signal_propagation as measure
from dbn.finetuning.summary import result
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.scaling import Scaling
from dbn.runs.checkpoint import SHARE, Checkpoint
from dbn.runs.classifier import best_classifier, read_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin
from dbn.statistics import mean_interval, paired_t_test
from dbn.tasks.metrics import Scores, score
from dbn.training import checkpoint_control

CONFIG = Finetuning(
    init=("dbn", "he_normal", "xavier_uniform:tanh"),
    labels=24,
    valid_labels=9,
    seeds=3,
    seed=5,
    epochs=4,
    batch_size=10,
    learning_rate=(0.3, 0.02),
)
SPLITS, STACK = splits(), stack()
LEARNED = Scores(10.0, 0.7, [[9, 1, 0], [0, 10, 0], [0, 2, 8]])
STUCK = Scores(66.0, 1.1, [[0, 10, 0], [0, 10, 0], [0, 10, 0]])


def problem(**options: Any) -> Problem:
    return Problem(SPLITS, Scaling(), (7, 5), (STACK,), replace(CONFIG, **options))


def compare(path: Path, made: Problem, *, resume: bool = False) -> list[TunedArm]:
    """What scripts/finetune.py does."""
    run = begin(path, to_dict(made.config), resume=resume, overwrite=False)
    comparison = Comparison(made, run)
    chosen = comparison.train()
    tested = comparison.test(chosen)
    comparison.write(chosen, tested)
    run.write_json("result.json", result(made, chosen, tested))
    return chosen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "run"
    compare(path, problem())
    return path


# From end to end


def test_the_numbers_agree(finished: Path) -> None:
    found = json.loads((finished / "result.json").read_text())
    assert {name: found[name] for name in ("dataset", "labels", "valid_labels", "refit", "seeds", "stacks")} == {
        "dataset": "tiny", "labels": 24, "valid_labels": 9, "refit": False, "seeds": [5, 6, 7], "stacks": 1,
    }  # fmt: skip
    assert list(found["arms"]) == list(CONFIG.init)
    records = metrics(finished)
    for name, arm in found["arms"].items():
        assert (arm["mean"], arm["ci95"]) == mean_interval(arm["test_error"])
        assert arm["activation"] == parse_arm(name).activation
        by_rate = {
            rate: [
                min(
                    (r["valid_error"], r["valid_loss"], r["epoch"])
                    for r in records
                    if (r["arm"], r["learning_rate"], r["seed"], r["stage"]) == (name, rate, seed, "tune")
                )
                for seed in (5, 6, 7)
            ]
            for rate in (0.02, 0.3)
        }
        best = min(by_rate, key=lambda rate: sum(error for error, _, _ in by_rate[rate]))
        assert arm["learning_rate"] == best
        assert arm["valid_error"] == [error for error, _, _ in by_rate[best]]
        assert arm["best_epoch"] == [epoch for _, _, epoch in by_rate[best]]
        assert (arm["diverged"], len(arm["seconds"])) == (0, 3)
    assert len(records) == 3 * 2 * 3 * 4  # arms, rates, seeds, epochs: none twice


def test_the_classifier_is_the_one_that_was_tested(finished: Path) -> None:
    found = json.loads((finished / "result.json").read_text())["arms"]
    test = problem().test
    for name, arm in found.items():
        best = min(range(3), key=lambda n: arm["valid_error"][n])
        (file,) = (finished / name).glob("seed-*/classifier.safetensors")
        assert file.parent.name == f"seed-{5 + best}"
        network, description = read_classifier(file)
        scaling = Scaling.from_description(description)
        assert description["classes"] == ["0", "1", "2"]
        assert score(network, scaling, test.x, labels_of(test)).error == arm["test_error"][best]
    least = min(found, key=lambda name: sum(found[name]["valid_error"]))
    name, file = best_classifier(RunFolder(finished))
    assert (name, file.parent.parent.name) == (least, least)


def test_tensorboard_has_a_run_for_each_arm_and_seed(finished: Path) -> None:
    folders = {file.parent for file in finished.rglob("events.out.tfevents.*")}
    wanted = {finished / arm / f"seed-{seed}" for arm in CONFIG.init for seed in (5, 6, 7)}
    assert folders == wanted
    found = json.loads((finished / "result.json").read_text())["arms"]
    columns = set()
    for folder in folders:
        arm, number = found[folder.parent.name], int(folder.name.removeprefix("seed-")) - 5
        tuned = curves(folder)
        assert [step for step, _ in tuned["finetune/valid_error"]] == [1, 2, 3, 4]
        assert tuned["finetune/valid_error"] == tuned[f"learning-rate-{arm['learning_rate']}/valid_error"]
        assert len(tuned["learning-rate-0.3/train_loss"]) == len(tuned["learning-rate-0.02/train_loss"]) == 4
        ((step, error),) = tuned["finetune/test_error"]
        assert step == arm["best_epoch"][number]
        assert error == pytest.approx(arm["test_error"][number])
        row = dict(hparams(folder))
        assert row["test_error"] == pytest.approx(arm["test_error"][number])
        assert (row["valid_error"], row["best_epoch"]) == (arm["valid_error"][number], step)
        shown = {tag: points for tag, points in tuned.items() if tag in events(folder).PluginTagToContent("scalars")}
        assert {len(points) for points in shown.values()} == {4}  # no lone dots
        columns.add(hparams(folder))
    assert len({tuple(name for name, _ in row) for row in columns}) == 1
    assert {(dict(row)["arm"], dict(row)["seed"]) for row in columns} == set(
        itertools.product(CONFIG.init, (5.0, 6.0, 7.0))
    )
    row = dict(next(iter(columns)))
    assert (row["labels"], row["batch_size"], row["momentum"]) == (CONFIG.labels, CONFIG.batch_size, 0.9)
    assert (row["hidden_dropout"], row.get("max_norm"), row["layer_rates"]) == (0.0, None, "(1.0,)")
    given = {each.name for each in fields(CONFIG) if getattr(CONFIG, each.name) is not None}
    assert given - {"init", "seeds", "signals", "together"} < set(row)


def hparams(folder: Path) -> tuple[tuple[str, Any], ...]:
    content = events(folder).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    info = HParamsPluginData.FromString(content).session_start_info.hparams
    return tuple((name, info[name].string_value or info[name].number_value) for name in sorted(info))


def test_the_test_set_is_touched_at_the_end_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = problem(epochs=1, refit=True)
    run = begin(tmp_path / "run", to_dict(made.config), resume=False, overwrite=False)
    comparison = Comparison(made, run)
    spoilt = replace(SPLITS, test=None)
    object.__setattr__(made, "splits", spoilt)
    chosen = comparison.train()
    with pytest.raises(InputError, match="no test examples"):
        comparison.test(chosen)
    object.__setattr__(made, "splits", SPLITS)
    errors = comparison.test(chosen)
    object.__setattr__(made, "splits", spoilt)
    comparison.write(chosen, errors)


@pytest.mark.parametrize(
    ("errors", "kept"),
    [
        ({0.3: [9.0, 1.0, 4.0], 0.02: [5.0, 5.0, 5.0]}, 0.3),
        ({0.3: [9.0, 9.0, 1.0], 0.02: [5.0, 5.0, 5.0]}, 0.02),
        ({0.3: [4.0, 5.0, 6.0], 0.02: [6.0, 5.0, 4.0]}, 0.02),
        # Seven wrong of nine in all under both: as floats the sum is greater under 0.02.
        ({0.3: [100 * 3 / 9, 100 * 4 / 9, 0.0], 0.02: [100 * 1 / 9, 100 * 6 / 9, 0.0]}, 0.02),
    ],
)
def test_an_arm_keeps_the_rate_of_least_mean_validation_error(
    errors: dict[float, list[float]], kept: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def made_up(self: Any, keys: Iterable[module.FitKey], *_: Any) -> dict[module.FitKey, FitResult]:
        found = {key: errors[key.learning_rate][key.seed - 5] for key in keys}
        records = {key: [{"valid_error": error, "seconds": 1.0}] for key, error in found.items()}
        return {key: FitResult({}, 1, history, diverged=False) for key, history in records.items()}

    monkeypatch.setattr(module.Fits, "train", made_up)
    chosen = Comparison(problem(), RunFolder(tmp_path)).train()
    assert [each.learning_rate for each in chosen] == [kept] * 3
    assert [outcome.valid_error for outcome in chosen[0].tuned] == errors[kept]


def test_rates_that_look_alike_are_two(tmp_path: Path) -> None:
    made = problem(init=("he_normal",), learning_rate=(0.1234567, 0.1234568), seeds=1, epochs=1)
    compare(tmp_path / "run", made)
    assert len(metrics(tmp_path / "run")) == 2


def test_refitting_keeps_the_best_epochs_and_tests_the_new_weights(tmp_path: Path) -> None:
    chosen = compare(tmp_path / "run", problem(init=("he_normal",), refit=True))[0]
    refits = [record for record in metrics(tmp_path / "run") if record["stage"] == "refit"]
    for seed, tuned, final in zip((5, 6, 7), chosen.tuned, chosen.final, strict=True):
        assert [r["epoch"] for r in refits if r["seed"] == seed] == list(range(1, tuned.best_epoch + 1))
        assert (final.weights["0.weight"] != tuned.weights["0.weight"]).any()
    best = min(range(3), key=lambda n: chosen.tuned[n].valid_error)
    network, _ = read_classifier(tmp_path / "run" / "he_normal" / f"seed-{5 + best}" / "classifier.safetensors")
    assert torch.equal(network.state_dict()["0.weight"], chosen.final[best].weights["0.weight"])


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    compare(tmp_path / "run", problem(seeds=1, epochs=20, batch_size=5, learning_rate=(0.1,)))
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {arm["ci95"] for arm in found["arms"].values()} == {None}
    assert found["comparison"]["p"] is None
    assert set(curves(tmp_path / "run" / "dbn" / "seed-5")) >= {"finetune/valid_error", "finetune/train_loss"}


# Interruptions


class Killed(Exception):
    pass


def kill_after(owner: Any, name: str, call: int, work: Callable[[], object]) -> None:
    """Do the work until the `call`-th call of a function, from 1, has returned."""
    calls, original = 0, getattr(owner, name)

    def count(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        original(*arguments)
        if calls == call:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, count)
        with pytest.raises(Killed):
            work()


LONG: dict[str, Any] = {
    "init": ("dbn", "he_normal"), "seeds": 2, "learning_rate": (0.05, 1e30), "refit": True, "freeze_epochs": 1,
    "epochs": 3, "signals": (1, 2),
}  # fmt: skip
"""Fits that diverge among them."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "run"
    compare(path, problem(**LONG))
    assert {record["epoch"] for record in metrics(path) if record["learning_rate"] == 1e30} == {1, 2}
    return path


INTERRUPTIONS = [(call, moment) for call in (1, 2, 4, 8, 11) for moment in ("checkpointed", "logged", "finished")]


@pytest.mark.parametrize(
    ("call", "moment"),
    [pytest.param(*each, marks=() if each == (8, "checkpointed") else pytest.mark.slow) for each in INTERRUPTIONS],
)
def test_an_interruption_leaves_no_trace(
    moment: str, call: int, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupted(tmp_path / "run", problem(**LONG), moment, call, monkeypatch)
    same_run(tmp_path / "run", uninterrupted)


def interrupted(path: Path, made: Problem, moment: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with as many checkpoints as there are steps that is killed in that call, and resumed."""
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1.0)
    owner, name = {
        "checkpointed": (RunFolder, "save_checkpoint"),
        "logged": (RunFolder, "log"),
        "finished": (module, "save_state"),
    }[moment]
    kill_after(owner, name, call, lambda: compare(path, made))
    compare(path, made, resume=True)


def same_run(path: Path, whole: Path) -> None:
    assert result_of(path) == result_of(whole)
    assert metrics(path) == metrics(whole)
    folders = sorted(file.parent.relative_to(whole) for file in whole.rglob("events.out.tfevents.*"))
    assert sorted(file.parent.relative_to(path) for file in path.rglob("events.out.tfevents.*")) == folders
    for folder in folders:
        found, expected = (sorted(curves(where / folder).items()) for where in (path, whole))
        assert repr(found) == repr(expected)  # repr: NaN equals itself
        assert steps(path / folder) == steps(whole / folder)
        assert hparams(path / folder) == hparams(whole / folder)
    for file in whole.rglob("classifier.safetensors"):
        assert (path / file.relative_to(whole)).read_bytes() == file.read_bytes()


TOGETHER: dict[str, Any] = LONG | {"init": ("he_normal", "xavier_uniform:relu", "dbn"), "patience": 1, "epochs": 4}
"""Two arms in one group, and fits that leave it."""


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("together") / "run"
    compare(path, problem(**TOGETHER, together="auto"))
    return path


TOGETHER_INTERRUPTED = [
    *((call, moment) for call in (1, 4, 20) for moment in ("checkpointed", "logged")),
    *((call, "finished") for call in (1, 3, 9, 12, 15)),
]


@pytest.mark.parametrize(
    ("call", "moment"),
    [
        pytest.param(*each, marks=() if each in ((4, "checkpointed"), (3, "finished")) else pytest.mark.slow)
        for each in TOGETHER_INTERRUPTED
    ],
)
def test_an_interruption_of_fits_together_leaves_no_trace(
    moment: str, call: int, together: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupted(tmp_path / "run", problem(**TOGETHER, together="auto"), moment, call, monkeypatch)
    same_run(tmp_path / "run", together)


def test_fits_together_find_what_they_find_alone(together: Path, tmp_path: Path) -> None:
    compare(tmp_path / "run", problem(**TOGETHER))
    alone, found = metrics(tmp_path / "run"), metrics(together)
    key = itemgetter("arm", "stage", "learning_rate", "seed", "epoch")
    assert found != sorted(found, key=key)  # epoch by epoch
    for record, own in zip(sorted(found, key=key), sorted(alone, key=key), strict=True):
        assert key(record) == key(own)
        losses, expected = (
            {name: math.nan if value is None else value for name, value in each.items() if "loss" in name}
            for each in (record, own)
        )
        assert losses == pytest.approx(expected, rel=1e-3, nan_ok=True)
    arms, expected = (result_of(path)["arms"] for path in (together, tmp_path / "run"))
    for name, arm in expected.items():
        for figure in ("learning_rate", "best_epoch", "test_error", "valid_error", "diverged"):
            assert arms[name][figure] == arm[figure]


def test_no_epoch_is_shown_twice_while_a_resumed_run_is_under_way(tmp_path: Path) -> None:
    path, made = tmp_path / "run", problem(epochs=9)
    kill_after(RunFolder, "log", 4, lambda: compare(path, made))
    kill_after(RunFolder, "log", 6, lambda: compare(path, made, resume=True))
    assert [record["epoch"] for record in metrics(path)] == [1, 2, 3, 4, 5, 6]
    shown = curves(path / "dbn" / "seed-5")["learning-rate-0.02/valid_error"]
    assert [step for step, _ in shown] == [1, 2, 3, 4, 5]  # the sixth was logged, and not yet shown


@pytest.mark.parametrize(
    ("cost", "wanted"),
    [
        (0.0, [1, 2, 3, 4]),  # after every epoch but the last, which the fit's own file follows
        (0.03, [2, 4]),
        (0.05, [3]),
        (1.0, []),
    ],
)
def test_checkpoints_take_no_more_than_their_share(
    cost: float, wanted: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where an epoch takes a second; nothing is waited for, and a checkpoint costs what it is said to."""
    clock, done = [0.0], []

    def save(run: RunFolder, state: dict[str, Any], *files: Path) -> None:
        done.append(state["fit"]["epoch"])
        assert files == tuple(run.path.rglob("events.out.tfevents.*"))  # which must be on the disk before

    def log(*_: object) -> None:
        clock[0] += 1.001

    monkeypatch.setattr(checkpoint_control, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(RunFolder, "log", log)
    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    monkeypatch.setattr(Checkpoint, "seconds_apart", property(lambda checkpoint: cost / SHARE))
    compare(tmp_path / "run", problem(init=("he_normal",), learning_rate=(0.05,), seeds=1, epochs=5))
    assert done == wanted


def test_a_finished_comparison_can_be_resumed(uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    for _ in range(2):
        compare(tmp_path / "run", problem(**LONG), resume=True)
    same_run(tmp_path / "run", uninterrupted)


# Without a folder, and with a callback


def test_a_comparison_needs_no_folder(finished: Path) -> None:
    seen: list[dict[str, Any]] = []
    comparison = Comparison(problem(), None, seen.append)
    chosen = comparison.train()
    whole = json.loads((finished / "result.json").read_text())["arms"]
    errors = {name: [found.error for found in seeds] for name, seeds in comparison.test(chosen).items()}
    assert errors == {name: arm["test_error"] for name, arm in whole.items()}
    times = ("seconds", "measuring_seconds")
    assert [{k: v for k, v in line.items() if k not in times} for line in seen] == metrics(finished)


@pytest.mark.parametrize("call", [8, *(pytest.param(call, marks=pytest.mark.slow) for call in (3, 11, 24))])
def test_a_callback_that_raises_ends_a_comparison_resumably(call: int, uninterrupted: Path, tmp_path: Path) -> None:
    made, seen = problem(**LONG), list[dict[str, Any]]()

    def stop(line: dict[str, Any]) -> None:
        seen.append(line)
        if len(seen) == call:
            raise Killed

    with begin(tmp_path / "run", to_dict(made.config), resume=False, overwrite=False) as run, pytest.raises(Killed):
        Comparison(made, run, stop).train()
    stopped = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert seen == stopped
    state = RunFolder(tmp_path / "run").load_checkpoint()
    assert state is not None
    assert (state["key"][1], state["key"][2], state["fit"]["epoch"]) == tuple(
        seen[-1][name] for name in ("learning_rate", "seed", "epoch")
    )
    compare(tmp_path / "run", made, resume=True)
    same_run(tmp_path / "run", uninterrupted)


# Signals


@pytest.mark.parametrize(("refit", "average"), [(False, None), (True, None), (False, 0.9)])
def test_signals_are_shown_while_the_tested_fit_trains(refit: bool, average: float | None, tmp_path: Path) -> None:
    made = problem(init=("he_normal",), seeds=2, signals=(2, 3), refit=refit, average=average)
    (chosen,) = compare(tmp_path / "run", made)
    for seed, outcome in zip((5, 6), chosen.final, strict=True):
        fit = Trainer(made, chosen.arm, chosen.learning_rate, seed, outcome.best_epoch if refit else None)
        spread = {0: measure(fit.network, *made.probe(seed))[1].z_std}
        for record in fit.epochs():
            spread[int(record["epoch"])] = measure(fit.kept, *made.probe(seed))[1].z_std
        folder = tmp_path / "run" / "he_normal" / f"seed-{seed}"
        shown = dict(curves(folder)["signals/layer2/z_std"])
        assert list(shown) == sorted({0, *({2, 3} & {*spread}), outcome.best_epoch})
        assert shown == pytest.approx({epoch: spread[epoch] for epoch in shown}, rel=1e-6)
        assert steps(folder)["signals/layer3/gradient"] == list(shown)


def test_measuring_signals_changes_nothing_else(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "hidden_dropout": 0.3, "average": 0.9, "init": ("dbn", "batch_norm")}
    compare(tmp_path / "plain", problem(**options))
    compare(tmp_path / "measured", problem(**options, signals=(1, 3)))
    assert result_of(tmp_path / "plain") == result_of(tmp_path / "measured")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "measured")
    for folder in (file.parent for file in (tmp_path / "plain").rglob("events.out.*")):
        found = curves(tmp_path / "measured" / folder.relative_to(tmp_path / "plain"))
        assert {tag: curve for tag, curve in found.items() if "signals/" not in tag} == curves(folder)
        assert "signals/layer1/z" in steps(tmp_path / "measured" / folder.relative_to(tmp_path / "plain"))
        assert not [tag for tag in {**curves(folder), **steps(folder)} if "signals/" in tag]


@pytest.mark.parametrize(
    ("signals", "sound"),
    [
        ({}, True),
        ({1: [[0.5] * 12] * 3, 2: [[math.nan] * 12] * 3}, True),
        ({3: [[0.5] * 12] * 3}, False),
        ({0: [[0.5] * 12] * 3}, False),
        ({"1": [[0.5] * 12] * 3}, False),
        ({1: [[0.5] * 12] * 2}, False),
        ({1: [[0.5] * 11] * 3}, False),
        ({1: [["much"] * 12] * 3}, False),
        ([], False),
    ],
)
def test_signals_of_another_fit_are_refused(signals: Any, sound: bool) -> None:
    network = problem().network(parse_arm("he_normal"), 5)
    history = [{"epoch": 1, "train_loss": 1.0, "valid_error": 1.0, "valid_loss": 1.0, "seconds": 1.0}] * 2
    with nullcontext() if sound else pytest.raises(ValueError, match="the signals"):
        check_fit_result(network, network.state_dict(), 1, history, signals, 2, tuned=True)


def test_divergence_is_counted(tmp_path: Path) -> None:
    made = problem(init=("he_normal",), learning_rate=(1e30,), seeds=2)
    compare(tmp_path / "run", made)
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["arms"]["he_normal"]["diverged"] == 2
    assert "(diverged under 2 of 2 seeds)" in table(found)


def test_a_refit_that_diverges_is_counted() -> None:
    made = problem(init=("he_normal",), refit=True)
    tuned, final = (
        [FitResult({}, 1, [{"valid_error": 1.0, "seconds": 1.0}], diverged=seed in which) for seed in (5, 6, 7)]
        for which in ((5,), (5, 7))
    )
    chosen = [TunedArm(parse_arm("he_normal"), 0.1, tuned, final)]
    assert result(made, chosen, {"he_normal": [LEARNED] * 3})["arms"]["he_normal"]["diverged"] == 2


# What is said


def found(errors: dict[str, list[float]], stuck: dict[str, int] | None = None, **about: Any) -> dict[str, Any]:
    """As `result` gives it; `stuck`: under how many seeds an arm gives one class."""
    made = problem(init=tuple(errors), seeds=len(next(iter(errors.values()))))
    tested = {
        name: [replace(STUCK if n < (stuck or {}).get(name, 0) else LEARNED, error=e) for n, e in enumerate(values)]
        for name, values in errors.items()
    }
    chosen = []
    for name, values in errors.items():
        outcomes = [FitResult({}, 1, [{"valid_error": value + 1, "seconds": 1.25}], diverged=False) for value in values]
        chosen.append(TunedArm(parse_arm(name), 0.1, outcomes, outcomes))
    return result(made, chosen, tested) | {"test_examples": 10_000, "valid_labels": 90, "idle_layers": []} | about


def test_the_table() -> None:
    text = table(found({"xavier_uniform": [8.0, 9.0], "dbn": [7.0, 7.5]}))
    lines = [line.split("  ") for line in text.splitlines()]
    assert text.splitlines()[0].split() == [
        "arm",
        "activation",
        "rate",
        "test",
        "error",
        "%",
        "balanced",
        "%",
        "log-loss",
        "validation",
        "%",
        "seconds",
    ]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines[2:]]
    _, wide = mean_interval([8.0, 9.0])
    _, narrow = mean_interval([7.0, 7.5])
    assert cells == [
        ["dbn", "sigmoid", "0.1", f"7.25 ± {narrow:.2f}", "10.00", "0.700", "8.25", "1.2"],
        ["xavier_uniform", "sigmoid", "0.1", f"8.50 ± {wide:.2f}", "10.00", "0.700", "9.50", "1.2"],
    ]
    assert "±" not in table(found({"dbn": [7.0], "he_normal": [8.0]}))


@pytest.mark.parametrize(
    ("errors", "said", "chance"),
    [
        (
            {"he_normal": [8.0, 9.0, 8.6], "dbn": [7.0, 7.9, 7.7]},
            "is separated from the next best, he_normal: 1.00",
            None,
        ),
        (
            {"he_normal": [8.0, 9.0, 8.6], "dbn": [7.0, 9.4, 7.7]},
            "is not separated from the next best, he_normal: 0.50",
            None,
        ),
        (
            {"he_normal": [8.0, 9.0], "dbn": [7.0, 8.0001], "xavier_uniform": [9.0, 10.0]},
            "is separated from the next best, he_normal: 1.00",
            "p < 0.001",
        ),
    ],
)
def test_the_sentence_on_several_seeds(errors: dict[str, list[float]], said: str, chance: str | None) -> None:
    first, second = list(errors.values())[:2]
    test = f"paired t-test over {len(first)} seeds: {chance or f'p = {paired_t_test(first, second):.3f}'}"
    assert sentence(found(errors)) == f"dbn {said} points ahead ({test})."


def test_the_sentence_where_nothing_can_be_tested() -> None:
    alone = found({"he_normal": [8.0], "dbn": [7.5]})
    said = "dbn is 0.50 points ahead of he_normal under one seed, which says nothing about chance."
    assert sentence(alone) == said
    same = found({"he_normal": [8.0, 9.0], "dbn": [7.0, 8.0]})
    said = "dbn is 1.00 points ahead of he_normal under each of 2 seeds, which allows no test of chance."
    assert (sentence(same), same["comparison"]["p"]) == (said, None)
    assert sentence(found({"he_normal": [8.0, 7.0]})) == "One arm alone: nothing to compare it with."


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (  # the next best is neither Xavier nor He
            {"dbn": [1.0, 2.0], "orthogonal": [2.0, 3.1], "he_normal": [3.0, 4.0001]},
            "dbn is separated from the best of Xavier and He, he_normal: 2.00 points ahead (p < 0.001).",
        ),
        (  # another wins, and the next is not dbn
            {"dbn": [5.0, 6.0], "orthogonal": [2.0, 3.1], "glorot_normal:tanh": [3.0, 4.0001]},
            "dbn is separated from the best other arm, orthogonal: 2.95 points behind (p = 0.011). dbn is separated "
            "from the best of Xavier and He, glorot_normal:tanh: 2.00 points behind (p < 0.001).",
        ),
        (  # one of two dbn arms
            {"dbn": [2.0, 3.1], "dbn:tanh": [1.0, 2.0], "zeros": [8.0, 9.0], "he_uniform": [3.0, 4.4]},
            "dbn:tanh is not separated from the best other arm, he_uniform: 2.20 points ahead (p = 0.058).",
        ),
        (
            {"dbn": [5.0], "orthogonal": [2.0], "he_normal": [3.0]},
            "dbn is 3.00 points behind the best other arm, orthogonal. "
            "dbn is 2.00 points behind the best of Xavier and He, he_normal.",
        ),
        (  # the best gain counts
            {"dbn": [1.0, 2.0], "lsuv": [2.0, 3.0], "xavier_uniform": [9.0, 9.5], "xavier_uniform(gain=4)": [3.0, 4.0]},
            "dbn is 2.00 points ahead of the best of Xavier and He, xavier_uniform(gain=4) under every seed.",
        ),
        ({"dbn": [1.0, 2.0], "he_normal": [3.0, 4.0], "zeros": [8.0, 9.0]}, ""),  # said already
        ({"he_normal": [3.0, 4.0], "dbn": [8.0, 9.0]}, ""),
        ({"he_normal": [3.0, 4.0], "zeros": [8.0, 9.0]}, ""),
    ],
)
def test_dbn_is_compared_with_the_best_other_arm_and_the_best_of_xavier_and_he(
    errors: dict[str, list[float]], said: str
) -> None:
    made = found(errors)
    first = sentence(made | {"dbn_against": {}})
    assert sentence(made) == f"{first} {said}".strip()


def test_an_arm_that_gives_one_class_is_named_and_not_compared() -> None:
    errors = {"zeros": [66.0, 67.0], "dbn": [1.0, 2.0], "he_normal": [3.0, 4.0001], "orthogonal": [30.0, 5.0]}
    made = found(errors, {"zeros": 2, "orthogonal": 1})
    assert [arm["one_class"] for arm in made["arms"].values()] == [2, 0, 0, 1]
    assert stuck_sentence(made) == (
        "zeros and orthogonal (under 1 of 2 seeds) give nearly every test example the same class: they have not "
        "learned to tell the classes apart. Try other learning rates, more epochs or another activation; with sigmoid "
        "units a gain of 4, as in xavier_uniform(gain=4)."
    )
    assert stuck_sentence(found(errors, {"zeros": 2})).startswith("zeros gives nearly every test example the same")
    assert stuck_sentence(found(errors)) == ""
    assert sentence(made).startswith("dbn is separated from the next best, he_normal: 2.00")
    two = {"zeros": [66.0, 66.0], "dbn": [1.0, 1.1]}
    alone = found(two, {"zeros": 2})
    assert (alone["comparison"], alone["dbn_against"]) == (None, {})
    assert comparison_text(alone).splitlines()[-2:] == [
        stuck_sentence(alone), "dbn alone has learned: nothing to compare it with."
    ]  # fmt: skip
    assert sentence(found(two, {"zeros": 2, "dbn": 2})) == "No arm has learned: there is nothing to compare."


def test_few_examples_and_idle_stacks_are_said_in_the_head() -> None:
    errors = {"dbn": [10.0, 10.0], "he_normal": [20.0, 20.0]}
    assert notes(found(errors)) == []
    small = found(errors, test_examples=36, valid_labels=9, idle_layers=[1, 2])
    assert notes(small) == [
        "The test set is too small to show small differences: one of its 36 examples is 2.8 %, and errors on 36 others "
        "would differ by up to about 10 points.",
        "Only 9 validation labels select learning rate and epoch: one is 11.1 %.",
        "The stack has hardly left its start: the hidden units of layers 1 and 2 give nearly the same for every "
        "example. Pre-train it for more updates: more epochs, or smaller batches.",
    ]
    assert comparison_text(small).splitlines()[1:4] == notes(small)
    untested = found(errors, support=[10_000, 0, 0])
    assert notes(untested) == ["No test example is of the class '1', '2': the errors leave it out."]


def test_seeds_that_share_few_test_examples_separate_no_small_difference() -> None:
    errors = {"he_normal": [0.0, 0.0], "dbn": [100 / 30, 100.01 / 30], "xavier_uniform": [20.0, 20.01]}
    few = found(errors, test_examples=30)
    p = "p < 0.001, but all on the same 30 test examples"
    wanted = f"he_normal is not separated from the next best, dbn: 3.33 points ahead (paired t-test over 2 seeds: {p})."
    assert sentence(few) == wanted
    assert "he_normal is separated from" in sentence(found(errors, test_examples=100))
    del errors["dbn"]  # 20 points are more than another 30 examples would change
    assert "he_normal is separated from the next best, xavier_uniform" in sentence(found(errors, test_examples=30))


def test_an_idle_stack_is_noticed_where_an_arm_uses_it() -> None:
    idle, generator = stack(), torch.Generator().manual_seed(0)
    torch.nn.init.normal_(idle.layers[0].weight, std=0.01, generator=generator)
    made = Problem(SPLITS, Scaling(), (7, 5), (idle,), replace(CONFIG, init=("dbn", "zeros"), seeds=1))
    outcome = FitResult({}, 1, [{"valid_error": 1.0, "seconds": 1.0}], diverged=False)
    chosen = [TunedArm(parse_arm("dbn"), 0.1, [outcome], [outcome])]
    assert result(made, chosen, {"dbn": [LEARNED]})["idle_layers"] == [1, 2]
    other = replace(made, config=replace(made.config, init=("he_normal",)))
    assert result(other, chosen, {"dbn": [LEARNED]})["idle_layers"] == []
    with torch.no_grad():
        for rbm in idle.layers:
            rbm.weight.normal_(std=2.0, generator=generator)
    assert result(made, chosen, {"dbn": [LEARNED]})["idle_layers"] == []


NEWER = ("idle_layers", "test_examples", "classes", "support", "dbn_against")
NEWER_OF_ARMS = ("test_balanced_error", "test_log_loss", "one_class", "recall", "precision", "confusion")


def test_results_of_earlier_versions_are_still_printed(finished: Path) -> None:
    text = json.loads((finished / "result.json").read_text())
    for name in NEWER:
        del text[name]
    for arm in text["arms"].values():
        for name in NEWER_OF_ARMS:
            del arm[name]
    lines = comparison_text(text).splitlines()
    assert lines[0].startswith("tiny: 24 training labels, 9 for validation; 3 seeds")
    assert lines[2].split() == ["arm", "activation", "rate", "test", "error", "%", "validation", "%", "seconds"]
    assert "separated from the next best" in lines[-1]


def test_the_scores_of_the_test_set_are_kept(finished: Path) -> None:
    text = json.loads((finished / "result.json").read_text())
    test = problem().test
    assert (text["test_examples"], text["classes"], text["support"]) == (30, ["0", "1", "2"], [10, 10, 10])
    for name, arm in text["arms"].items():
        counts = torch.tensor(arm["confusion"], dtype=torch.float64)
        assert counts.sum() == 3 * 30  # summed over seeds
        assert 100 * (1 - counts.trace() / 90) == pytest.approx(arm["mean"])
        assert sum(arm["test_balanced_error"]) / 3 == pytest.approx(100 - sum(arm["recall"]) / 3)
        (file,) = (finished / name).glob("seed-*/classifier.safetensors")
        network, description = read_classifier(file)
        best = score(network, Scaling.from_description(description), test.x, labels_of(test))
        seed = int(file.parent.name.removeprefix("seed-")) - 5
        assert (best.balanced_error, best.log_loss) == (
            arm["test_balanced_error"][seed], pytest.approx(arm["test_log_loss"][seed])
        )  # fmt: skip
        shown = curves(file.parent)
        assert shown["finetune/test_balanced_error"][0][1] == pytest.approx(best.balanced_error)
        assert shown["finetune/test_log_loss"][0][1] == pytest.approx(best.log_loss)
        assert steps(file.parent)["confusion"] == [arm["best_epoch"][seed]]
    with Image.open(finished / "confusion.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize(
    ("errors", "about", "said"),
    [
        (
            {"dbn": [1.0, 2.0]},
            {"labels": 60000},
            "tiny: 60,000 training labels, 90 for validation, 10,000 for testing; 2 seeds, mean ± 95 % "
            "interval (Student's t); "
            "one pre-trained stack, whose own variance the interval leaves out",
        ),
        (
            {"dbn": [1.0]},
            {"refit": True},
            "tiny: 24 training labels, 90 for validation, refitted on both, 10,000 for testing; 1 seed, "
            "one seed, no interval; "
            "one pre-trained stack",
        ),
        (
            {"dbn": [1.0, 2.0]},
            {"stacks": 2},
            "tiny: 24 training labels, 90 for validation, 10,000 for testing; 2 seeds, mean ± 95 % "
            "interval (Student's t); "
            "one pre-trained stack a seed",
        ),
        (
            {"dbn": [1.0, 2.0]},
            {"stacks": 0},
            "tiny: 24 training labels, 90 for validation, 10,000 for testing; 2 seeds, mean ± 95 % "
            "interval (Student's t); "
            "no pre-trained stack",
        ),
    ],
)
def test_the_heading(errors: dict[str, list[float]], about: dict[str, Any], said: str) -> None:
    assert heading(found(errors, **about)) == said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "is no finished run of finetune: name one, or end it with --resume"),
        ("{}", "is not a run of finetune, which compares arms: name one"),
        ('{"arms": {}}', "is damaged"),
        ('{"arms": {"dbn": {}}}', "is damaged"),
        (json.dumps(comparison({"dbn": [1.0]})), "holds no classifier of the arm dbn: .* --resume"),
    ],
)
def test_a_run_without_a_classifier_is_named(text: str | None, sentence: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        best_classifier(RunFolder(tmp_path))
