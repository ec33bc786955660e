"""Each sign of trouble is said when it begins, and only then."""

import re

import pytest

from dbn.pretraining.diagnostics import IN_A_ROW, RULES, SETTLED, Diagnostics

SOUND = {
    "epoch": 1,
    "valid_kl": 20.0,
    "free_energy_gap": 0.5,
    "hidden_off": 0.1,
    "hidden_on": 0.0,
    "update_ratio": 1e-3,
    "learning_rate": 0.1,
    "chain_autocorrelation": 0.4,
    "swap_rate_lowest": 0.5,
}

TROUBLE: dict[str, tuple[dict[str, float], str]] = {
    "units_off": ({"hidden_off": 0.63}, "63% of the hidden units are off .*: lower --learning-rate"),
    "units_on": ({"hidden_on": 0.51}, "51% of the hidden units are on .* --sparsity-target"),
    "updates_too_large": ({"update_ratio": 0.05}, "5.0% of their size, and 0.1% is usual: lower --learning-rate"),
    "updates_too_small": ({"update_ratio": 2e-7}, "2e-07 of their size, and 0.001 is usual: raise --learning-rate"),
    "chains_stand_still": (
        {"chain_autocorrelation": 0.97},
        "hardly move .autocorrelation 0.97.* lower --learning-rate, or raise --gibbs-steps",
    ),
    "temperatures_apart": ({"swap_rate_lowest": 0.03}, "swap only 3.0% of the time, .* 0.40.: raise --temperatures"),
}


def test_a_sound_run_gives_no_warning() -> None:
    watch = Diagnostics(1000, 1000)
    assert [watch.warnings(dict(SOUND, epoch=epoch)) for epoch in range(20)] == [[]] * 20
    assert Diagnostics(1000, 1000).warnings({"epoch": 1}) == []  # nothing measured in this epoch


def test_chains_that_move_by_themselves_need_no_swaps() -> None:
    assert Diagnostics(1000, 1000).warnings(SOUND | {"swap_rate_lowest": 0.03, "chain_autocorrelation": 0.2}) == []


@pytest.mark.parametrize("rule", TROUBLE)
def test_trouble_is_said_once_and_again_when_it_returns(rule: str) -> None:
    change, sentence = TROUBLE[rule]
    watch, bad = Diagnostics(1000, 1000), SOUND | change
    after = IN_A_ROW - 1 if rule == "updates_too_large" else 0
    said = [watch.warnings(record) for record in (SOUND, *[bad] * 4, SOUND, *[bad] * 4)]
    assert [place for place, each in enumerate(said) if each] == [1 + after, 6 + after]
    assert re.search(sentence, said[1 + after][0])


@pytest.mark.parametrize("rule", ["units_off", "updates_too_large", "chains_stand_still"])
def test_momentum_is_named_where_there_is_any(rule: str) -> None:
    with_momentum, without = Diagnostics(1000, 1000, 0.9), Diagnostics(1000, 1000)
    bad = [SOUND | TROUBLE[rule][0]] * IN_A_ROW
    (one,), (other,) = ([said for each in bad for said in watch.warnings(each)] for watch in (with_momentum, without))
    assert other.replace(": lower ", ": lower --momentum or ") == one != other


RISING = [20.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0]


@pytest.mark.parametrize(
    ("gaps", "errors", "warned"),
    [
        ([0.0, 1.0, 1.5, 1.2, 2.0, 1.1], [19.0, *RISING[2:]], True),
        ([5.0, 0.0, 1.5, 1.0, 1.5, 1.0, 1.1], RISING, True),
        ([5.0, 0.0, 1.5, 1.0, 1.5, 1.0, 1.1], [20.0 - n for n in range(7)], False),  # validation still improves
        ([5.0, 0.0, 1.5, 1.0, 1.5, 1.0, 1.1], [20.0, 19.0, *[19.1] * 5], False),  # or nearly stays
        ([5.0, 0.0, 1.5, 1.0, 1.5, 1.0, 1.1], [*RISING[:-1], 18.0], False),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [19.0, *RISING[2:6]], False),  # too few to tell
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [19.0, *RISING[2:]], False),  # too little
        ([0.0, 5.0, 5.0, 0.2, 5.0, 5.0], [19.0, *RISING[2:]], False),  # noise
        ([4.0, 3.0, 2.0, 1.0, 0.5, 0.0], [19.0, *RISING[2:]], False),
    ],
)
def test_overfitting_is_a_gap_that_grows_and_a_validation_error_that_rises(
    gaps: list[float], errors: list[float], warned: bool
) -> None:
    watch, few = Diagnostics(1000, 1000), Diagnostics(1000, 20)
    records = [
        {"epoch": epoch, "free_energy_gap": gap, "valid_kl": error}
        for epoch, (gap, error) in enumerate(zip(gaps, errors, strict=True), 1)
    ]
    said = [watch.warnings(SOUND | record) for record in records]
    assert bool(said[-1]) is warned
    assert not any(said[:-1])
    assert [few.warnings(SOUND | record) for record in records] == [[]] * len(records)
    if warned:
        assert f"has grown from 0.00 to {gaps[-1]:.2f} nats" in said[-1][0]
        assert f"from 19.00 in epoch {errors.index(19.0) + 1} to {errors[-1]:.2f}: the RBM overfits" in said[-1][0]


def test_large_updates_are_usual_until_there_were_many() -> None:
    watch = Diagnostics(100, 1000)
    said = [watch.warnings(SOUND | {"epoch": epoch, "update_ratio": 0.05}) for epoch in range(1, 20)]
    assert [epoch for epoch, each in enumerate(said, 1) if each] == [SETTLED // 100 + IN_A_ROW]


def test_what_lasts_is_said_once_though_most_epochs_are_not_measured() -> None:
    watch = Diagnostics(1000, 1000)
    bad = SOUND | {"hidden_off": 0.8, "free_energy_gap": 0.0}
    records = [bad if epoch % 10 == 0 else {"epoch": epoch} for epoch in range(1, 101)]
    assert [epoch for epoch, record in enumerate(records, 1) if watch.warnings(record)] == [10]


def test_a_number_that_was_not_finite_is_passed_over() -> None:
    nulls = dict.fromkeys(SOUND) | {"hidden_off": 0.1}
    assert Diagnostics(1000, 1000).warnings(nulls) == []


def test_small_updates_under_a_falling_rate_are_sound() -> None:
    watch = Diagnostics(1000, 1000)
    watch.warnings(SOUND)
    assert watch.warnings(SOUND | {"update_ratio": 1e-8, "learning_rate": 0.001}) == []


def test_every_rule_is_tested() -> None:
    assert {rule.__name__ for rule in RULES} == {*TROUBLE, "gap_grows"}
