"""Rows that the network labels itself."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CLASSES, splits, stack
from torch import Tensor, nn

from dbn.config.finetuning import Finetuning
from dbn.config.study import StudyTraining
from dbn.data.cut import splits_from_arrays
from dbn.data.examples import labels_of
from dbn.errors import InputError
from dbn.finetuning import pseudo_labels
from dbn.finetuning.problem import Problem
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import parse_arm
from dbn.models.scaling import Scaling
from dbn.storage.tensors import load_state, save_state

CONFIG = Finetuning(init=("dbn", "he_normal"), labels=12, valid_labels=9, seeds=1, epochs=6, batch_size=10)
HE = parse_arm("he_normal")
DATA, STACK = splits(), stack()
ROWS = len(DATA.train)
Y = torch.arange(CLASSES)


def problem(**options: Any) -> Problem:
    return Problem(DATA, Scaling(), (7, 5), (STACK,), replace(CONFIG, **options))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def network() -> nn.Sequential:
    return problem().network(HE, 0)


# The draw


@pytest.mark.parametrize("n", [0, 1, 50, ROWS])
@pytest.mark.parametrize("y", [[0, 1, 2], [0, 0, 0, 0, 0, 0, 1, 1, 2]])
def test_rows_are_drawn_once_and_have_the_most_probable_class(n: int, y: list[int]) -> None:
    made = network()
    drawn = pseudo_labels.draw(problem(pseudo_labels=n), made, torch.tensor(y), n, generator())
    wanted, counts = [], [0] * CLASSES
    rows = torch.randperm(ROWS, generator=generator())[:n].tolist()
    known = {row: made(Scaling()(DATA.train.x[row : row + 1])).softmax(1).squeeze(0) for row in rows}
    for row in sorted(rows, key=lambda row: -known[row].max().item()):
        label = int(known[row].argmax())
        if counts[label] < -(-n * y.count(label) // len(y)):
            counts[label] += 1
            wanted.append((row, label))
    assert list(zip(drawn["rows"].tolist(), drawn["classes"].tolist(), strict=True)) == wanted


def test_only_sure_rows_are_kept() -> None:
    made = network()
    every = pseudo_labels.draw(problem(pseudo_labels=ROWS), made, Y, ROWS, generator())
    probability = made(Scaling()(DATA.train.x[every["rows"]])).softmax(1).amax(1)
    least = probability.sort().values[len(probability) // 2].item() - 1e-5
    some = problem(pseudo_labels=ROWS, pseudo_confidence=least)
    sure = pseudo_labels.draw(some, made, Y, ROWS, generator())
    assert 0 < len(sure["rows"]) < len(every["rows"])
    assert torch.equal(sure["rows"], every["rows"][probability >= least])
    assert torch.equal(sure["classes"], every["classes"][probability >= least])


def test_a_network_without_finite_outputs_is_sure_of_nothing() -> None:
    made = network()
    with torch.no_grad():
        made[-1].bias.fill_(torch.nan)
    assert len(pseudo_labels.draw(problem(pseudo_labels=20), made, Y, 20, generator())["rows"]) == 0


# Training


def watched(made: Problem, monkeypatch: pytest.MonkeyPatch) -> tuple[Trainer, dict[int, list[Any]]]:
    """A fit, and by epoch the network before it with the rows and classes of its steps."""
    seen: dict[int, list[Any]] = {}
    step = Trainer._step

    def watch(self: Trainer, indices: Tensor, epoch: int, number: int) -> None:
        if number == 0:
            seen[epoch] = [{name: each.clone() for name, each in self.kept.state_dict().items()}]
        seen[epoch].append((self.train_set.x[indices], labels_of(self.train_set)[indices]))
        step(self, indices, epoch, number)

    monkeypatch.setattr(Trainer, "_step", watch)
    fit = Trainer(made, HE, 0.1, 0)
    for _ in fit.epochs():
        pass
    return fit, seen


@pytest.mark.parametrize("average", [None, 0.5])
def test_an_epoch_has_the_labeled_rows_and_those_of_the_network_before_it(
    average: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = problem(pseudo_labels="0,30@3,40@5", hidden_dropout=0.3, average=average)
    fit, seen = watched(made, monkeypatch)
    counts = [record["pseudo_labels"] for record in fit.history]
    assert all(0 < n <= most for n, most in zip(counts[2:], (30, 30, 40, 40), strict=True))
    assert counts[:2] == [0, 0]
    train = made.labeled(0)[0]
    known = {tuple(row) for row in train.x.tolist()}
    drawn = []
    for epoch, (weights, *steps) in seen.items():
        n = int(fit.history[epoch - 1]["pseudo_labels"])
        assert [len(y) for _, y in steps] == [10] * ((12 + n) // 10) + [(12 + n) % 10] * ((12 + n) % 10 > 0)
        x, y = torch.cat([x for x, _ in steps]), torch.cat([y for _, y in steps])
        given = made.network_with(HE, weights).eval()(Scaling()(x)).argmax(1)
        own = [place for place, row in enumerate(x.tolist()) if tuple(row) not in known]
        assert torch.equal(y[own], given[own])
        counts = [sorted(map(tuple, part.tolist())).count for part in (x, train.x)]
        assert all(counts[0](tuple(row)) >= counts[1](tuple(row)) for row in train.x.tolist())
        drawn.append({tuple(row) for row in x.tolist()} - known)
    assert drawn[0] == drawn[1] == set()
    assert drawn[2] != drawn[3]  # each epoch draws anew


def test_right_pseudo_labels_are_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With true classes in their place an epoch is one on as many labeled rows, bit for bit."""
    made = problem(pseudo_labels=30, epochs=2)
    rows = torch.arange(40, 70)

    def draw(*_: Any) -> pseudo_labels.Pseudo:
        return {"rows": rows, "classes": labels_of(DATA.train)[rows]}

    monkeypatch.setattr(pseudo_labels, "draw", draw)
    fit = Trainer(made, HE, 0.1, 0)
    plain = Trainer(problem(epochs=2), HE, 0.1, 0)
    plain.train_set = pseudo_labels.joined(made, plain.labeled, draw())
    for trainer in (fit, plain):
        assert len(list(trainer.epochs())) == 2
    for name, value in fit.network.state_dict().items():
        assert torch.equal(plain.network.state_dict()[name], value)


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_a_fit_goes_on_from_within_an_epoch(steps: int, tmp_path: Path) -> None:
    made = problem(pseudo_labels="10:60", pseudo_confidence=0.4, hidden_dropout=0.3)
    whole, first, second = (Trainer(made, HE, 0.1, 0) for _ in range(3))

    class Stop(Exception):
        pass

    left = steps

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stop

    first.after_step = count
    with pytest.raises(Stop):
        list(first.epochs())
    assert first.position > 0
    save_state(tmp_path / "state", first.state())
    second.load_state(load_state(tmp_path / "state"))
    list(whole.epochs())
    list(second.epochs())
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value)
    untimed = [[{k: v for k, v in r.items() if "seconds" not in k} for r in fit.history] for fit in (whole, second)]
    assert untimed[0] == untimed[1]


def test_a_network_that_labels_itself_learns_from_rows_that_nobody_labeled() -> None:
    """Two clouds that overlap by 2.3 %: their own form says more about the border than six labels."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 2
    x = torch.randn(600, 10, generator=draw)
    x[:, :4] += 2.0 * y[:, None] - 1
    data = splits_from_arrays((x / 16 + 0.5).clamp(0, 1).numpy(), y.numpy(), cut_test=True)
    options: dict[str, Any] = {"init": ("he_normal",), "epochs": 40, "labels": 6}
    errors = []
    for rows in (None, "0,300@11"):
        fit = Trainer(Problem(data, Scaling(), (10,), (), replace(CONFIG, pseudo_labels=rows, **options)), HE, 0.3, 0)
        list(fit.epochs())
        given = fit.kept.eval()(data.train.x).argmax(1)
        errors.append((given != labels_of(data.train)).double().mean().item())
    assert errors[1] < 0.06 < 0.08 < errors[0]


# Refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pseudo_labels": 20, "task": "regress"}, "--pseudo-labels needs classes: leave it out with --task regress"),
        ({"pseudo_confidence": 0.9}, "--pseudo-confidence needs --pseudo-labels: say how many rows, or leave it out"),
        ({"pseudo_labels": "0:-3"}, "--pseudo-labels must be a whole number, not '0:-3'"),
        ({"pseudo_labels": "0.5"}, "--pseudo-labels must be a whole number, not '0.5'"),
        ({"pseudo_labels": f"0:{ROWS + 1}"}, f"--pseudo-labels 0:{ROWS + 1} is more than the {ROWS} training rows"),
        (
            {"pseudo_labels": 20, "labels": None},
            f"--pseudo-labels needs training rows without a label in use, but all {ROWS} have one: put rows without "
            "label into the same file, say --labels for fewer, or leave it out",
        ),
        (
            {"pseudo_labels": 20, "init": ("batch_norm",)},
            "--init batch_norm normalizes whole batches, and with --pseudo-labels the last of an epoch may be one row: "
            "leave one of the two out",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        problem(**options)


@pytest.mark.parametrize(
    ("pseudo", "sentence"),
    [
        ({"rows": torch.tensor([1, 2])}, "pseudo.classes is no vector"),
        ({"rows": torch.tensor([1, ROWS]), "classes": torch.tensor([0, 1])}, f"pseudo.rows goes beyond {ROWS - 1}"),
        ({"rows": torch.tensor([1, -1]), "classes": torch.tensor([0, 1])}, "pseudo.rows goes beyond"),
        ({"rows": torch.tensor([1]), "classes": torch.tensor([CLASSES])}, f"pseudo.classes goes beyond {CLASSES - 1}"),
        ({"rows": torch.tensor([1]), "classes": torch.tensor([0, 1])}, "as many rows as classes"),
        ({"rows": torch.tensor([1.0]), "classes": torch.tensor([0])}, "pseudo.rows is no vector"),
        ({"rows": torch.tensor([1]), "classes": torch.tensor([0]), "more": torch.tensor([0])}, "as many rows as"),
    ],
)
def test_a_checkpoint_of_other_rows_is_refused(pseudo: dict[str, Tensor], sentence: str) -> None:
    fit = Trainer(problem(pseudo_labels=20), HE, 0.1, 0)
    state = fit.state() | {"pseudo": pseudo}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}|{re.escape(sentence)}"):
        fit.load_state(state)


def test_a_study_has_its_own_number_of_them_for_each_number_of_labels() -> None:
    training = StudyTraining(labels=(6, 12), pseudo_labels=("0,5@2", 8), seeds=1)
    assert [training.at(n).pseudo_labels for n in (6, 12)] == ["0,5@2", 8]
    assert [training.at(6).pseudo_rows(epoch, 3) for epoch in (1, 2, 3)] == [0, 5, 5]
    assert [StudyTraining(labels=(6, 12), pseudo_labels="0:6").at(n).pseudo_rows(2, 3) for n in (6, 12)] == [2, 2]
    with pytest.raises(InputError, match=r"^--pseudo-labels takes one value or one for each of --labels"):
        StudyTraining(labels=(6, 12), pseudo_labels=(3, 4, 5))


def test_a_share_is_rounded_up_exactly() -> None:
    """7 of 14 of 114 rows are 57: in floating point 58."""
    made, y = network(), torch.tensor([0] * 7 + [1] * 7)
    with torch.no_grad():
        made[-1].bias.copy_(torch.tensor([100.0, 0.0, 0.0]))  # every row is of class 0
    assert len(splits(n=200).train) >= 114
    data = Problem(splits(n=200), Scaling(), (7, 5), (STACK,), CONFIG)
    assert len(pseudo_labels.draw(data, made, y, 114, generator())["rows"]) == 57


def test_runs_without_them_keep_their_checkpoints_and_records() -> None:
    fit = Trainer(problem(), HE, 0.1, 0)
    list(fit.epochs())
    assert "pseudo" not in fit.state()
    assert "pseudo_labels" not in fit.history[0]
