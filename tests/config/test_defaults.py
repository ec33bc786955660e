"""The rule for options left out: updates, not epochs, and constants for many rows."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from dbn.config.common import to_dict
from dbn.config.defaults import left_out, told
from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import Pretraining
from dbn.config.study import StudyTraining

CONSTANTS = {"batch_size": 100, "epochs": (15,), "warmup_epochs": 1, "momentum": "0.5,0.9@6", "measure_every": 1,
             "picture_every": 5}  # fmt: skip


@pytest.mark.parametrize("rows", [9000, 10_000, 55_000, 10**7])
def test_many_rows_have_constants(rows: int) -> None:
    filled = Pretraining().for_data(rows, 784)
    assert {name: getattr(filled, name) for name in CONSTANTS} == CONSTANTS
    assert filled.hidden == (500, 500, 2000)
    assert filled.learning_rate == (0.2,)
    assert filled.centered is False


@pytest.mark.parametrize("rows", [10, 108, 150, 500, 1294, 3000, 5000, 8900])
@pytest.mark.parametrize("given", [{}, {"batch_size": 100}, {"batch_size": 7}])
def test_few_rows_get_as_many_updates(rows: int, given: dict[str, int]) -> None:
    filled = Pretraining(**given).for_data(rows, 20)
    steps = math.ceil(rows / filled.batch_size)
    least = 15 if filled.batch_size >= 100 else 10
    assert 900 <= filled.epochs[0] * steps < max(900 + steps, least * steps + 1)
    alike = max(10, math.ceil(900 / steps))  # of the epochs, those that the rest is counted in
    # The learning rate has risen, and the momentum after it, at the same part of all updates as with many rows.
    assert alike / 10 - 1 <= filled.warmup_epochs <= alike / 10
    (_, first), (epoch, second) = filled.for_layer(0).momentum.steps[0], filled.for_layer(0).momentum.steps[1]
    assert (first, second) == (0.5, 0.9)
    assert epoch - 1 == pytest.approx(alike / 2, abs=1)


@pytest.mark.parametrize(("rows", "batch"), [(10, 10), (499, 10), (550, 11), (1294, 25), (4999, 99), (5000, 100)])
def test_a_batch_is_a_fiftieth_of_the_examples(rows: int, batch: int) -> None:
    assert Pretraining().for_data(rows, 20).batch_size == Finetuning().for_data(rows).batch_size == batch


@pytest.mark.parametrize(("rows", "hidden"), [(12, (10,) * 3), (108, (27,) * 3), (3000, (500, 500, 750))])
def test_few_rows_get_few_hidden_units(rows: int, hidden: tuple[int, ...]) -> None:
    assert Pretraining().for_data(rows, 4).hidden == hidden
    assert Pretraining(hidden=2000).for_data(rows, 4).hidden == (2000,)


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ({}, (0.03, 0.1)),
        ({"batch_size": 100}, (0.1,)),
        ({"learning_rate": 0.5}, (0.5,)),
        ({"optimizer": "adam"}, (0.001,)),
    ],
)
def test_learning_rates_of_fine_tuning(given: dict[str, Any], rates: tuple[float, ...]) -> None:
    assert Finetuning(**given).for_data(200).learning_rate == rates
    assert Finetuning().for_data(5000).learning_rate == (0.1,)


def test_what_is_given_stays() -> None:
    given = Pretraining(batch_size=3, epochs=(4, 5, 6), warmup_epochs=0, momentum=0.3, measure_every=2, picture_every=7)
    filled = given.for_data(50, 20)
    assert all(getattr(filled, name) == getattr(given, name) for name in CONSTANTS)
    # Of a few epochs that are given, the warm-up is not more than a tenth, or one.
    assert Pretraining(epochs=5).for_data(50, 20).warmup_epochs == 1
    assert Pretraining(epochs=30).for_data(50, 20).warmup_epochs == 3


@pytest.mark.parametrize("estimator", ["pcd", "lagged-pcd", "pt"])
def test_persistent_chains_have_a_falling_rate_and_no_momentum(estimator: str) -> None:
    filled = Pretraining(estimator=estimator, hidden_units=("bernoulli", "gaussian", "bernoulli")).for_data(9000, 784)
    assert (filled.learning_rate, filled.momentum, filled.centered) == (("0.4:0", "0.1:0", "0.1:0"), 0.0, True)
    given = {"learning_rate": (0.1,), "momentum": "0.5,0.9@6", "centered": False}
    kept = Pretraining(estimator=estimator, **given).for_data(9000, 784)
    assert {name: getattr(kept, name) for name in given} == given
    adaptive = Pretraining(estimator=estimator, optimizer="adam").for_data(9000, 784)
    assert (adaptive.learning_rate, adaptive.momentum, adaptive.centered) == ((0.001,), None, True)


def test_nothing_is_left_to_choose_afterwards() -> None:
    for filled in (Pretraining().for_data(100, 4), Finetuning().for_data(100)):
        assert left_out(filled) == []
    filled = Pretraining(estimator="pcd").for_data(100, 4)
    assert filled.chains == filled.batch_size == 10
    assert filled.for_data(10**6, 3) == filled
    assert Pretraining(optimizer="adam").for_data(100, 4).momentum is None


def test_the_options_chosen_are_those_without_a_value() -> None:
    """A default that is added to the rule is added to its list, which --resume and the line about it read."""
    for config in (Pretraining, Finetuning):
        filled = config().for_data(*(100, 4)[: 1 + (config is Pretraining)])
        changed = {each.name for each in fields(config) if getattr(filled, each.name) != getattr(config(), each.name)}
        assert changed - {"momentum"} == {*config.CHOSEN_BY_DATA} - {"momentum"}


@pytest.mark.parametrize(("labels", "updates"), [(20, 500), (50, 500), (200, 1000), (1000, 2500), (9000, 4500)])
def test_updates_of_fine_tuning(labels: int, updates: int) -> None:
    filled = Finetuning().for_data(labels)
    assert filled.epochs * math.ceil(labels / filled.batch_size) == updates


def test_a_study_chooses_for_each_number_of_labels() -> None:
    given = StudyTraining(labels=(100, 1000, "all"), epochs=7)
    filled = given.for_data(9000)
    assert (filled.batch_size, filled.epochs, filled.learning_rate) == ((10, 20, 100), (7,), (0.03, 0.1))
    assert filled.at(1000).for_data(1000) == given.at(1000).for_data(1000)
    assert to_dict(filled)["batch_size"] == [10, 20, 100]


def test_what_was_chosen_is_told_as_options() -> None:
    given = Pretraining(hidden=3, epochs=2, learning_rate=0.5, momentum=0.5, measure_every=1)
    assert told(given, given.for_data(100, 4)) == "--batch-size 10 --warmup-epochs 1 --picture-every 5"
    filled = given.for_data(100, 4)
    assert told(filled, filled) == ""
    given = replace(given, estimator="pcd", momentum=None)
    assert (
        told(given, given.for_data(100, 4))
        == "--batch-size 10 --momentum 0.0 --centered --warmup-epochs 1 --picture-every 5"
    )
