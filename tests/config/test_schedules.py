"""A value over the epochs of a layer."""

import pytest

from dbn.config.schedules import Schedule


@pytest.mark.parametrize(
    ("written", "by_epoch"),
    [
        (0.1, [0.1] * 5),
        (3, [3.0] * 5),
        ("1e-2", [0.01] * 5),
        ("1,3@2,10@4", [1.0, 3.0, 3.0, 10.0, 10.0]),
        ("1,3@9", [1.0] * 5),
        ("1:0", [1.0, 0.8, 0.6, 0.4, 0.2]),
        ("0.5:1", [0.5, 0.6, 0.7, 0.8, 0.9]),
    ],
)
def test_the_value_of_each_epoch(written: float | str, by_epoch: list[float]) -> None:
    assert [Schedule.read(written).at(epoch, 5) for epoch in range(1, 6)] == pytest.approx(by_epoch)


@pytest.mark.parametrize(
    ("written", "epoch", "value"),
    [("1:0", 3.5, 0.5), ("1:0", 6.0, 0.0), ("1,3@2", 1.99, 1.0), ("1,3@2", 2.0, 3.0)],
)
def test_the_value_within_an_epoch(written: str, epoch: float, value: float) -> None:
    assert Schedule.read(written).at(epoch, 5) == pytest.approx(value)


@pytest.mark.parametrize(
    "written", ["", "a", "1,2", "1,2@", "1,2@x", "1,2@1", "1,2@5,3@5", "1,2@5,3@4", "1@2", "1:2:3", "1:", "1:2,3@4"]
)
def test_what_is_no_schedule_is_refused(written: str) -> None:
    with pytest.raises(ValueError):
        Schedule.read(written)


def test_all_its_values_can_be_checked() -> None:
    assert Schedule.read("1,3@2,10@4").values == (1.0, 3.0, 10.0)
    assert Schedule.read("0.1:0").values == (0.1, 0.0)
