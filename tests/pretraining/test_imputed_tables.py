"""How well holes are filled in: tables with known dependence, a table of measurements, and ratings."""

from typing import Any

import numpy as np
import pandas
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_wine

import dbn

OPTIONS: dict[str, dict[str, Any]] = {
    "gibbs": {"missing": "gibbs", "missing_steps": 3, "batch_size": 20, "learning_rate": 0.02, "seed": 1},
    "absent": {"missing": "absent", "batch_size": 20, "learning_rate": 0.02, "seed": 1},
}


def cut(frame: pandas.DataFrame, share: float, seed: int = 0) -> tuple[pandas.DataFrame, NDArray]:
    """The table with holes, and where they are; every row keeps a value."""
    rng = np.random.default_rng(seed)
    holes = rng.random(frame.shape) < share
    holes[np.arange(len(frame)), rng.integers(frame.shape[1], size=len(frame))] = False
    return frame.astype(object).where(~holes, None), holes


def made_up(n: int, seed: int = 0) -> pandas.DataFrame:
    """Two numbers, two categories and a yes or no, which all depend on one hidden number."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)

    def near() -> NDArray:
        return z + 0.4 * rng.normal(size=n)

    def named(values: NDArray) -> NDArray:
        return np.array(["low", "middle", "high"])[np.digitize(values, (-0.5, 0.5))]

    yes = np.where(near() > 0, "yes", "no")
    return pandas.DataFrame({"a": 20 + 5 * near(), "b": -near(), "yes": yes, "c": named(near()), "d": named(near())})


def compare(frame: pandas.DataFrame, with_holes: pandas.DataFrame, holes: NDArray, filled: dict[str, list[Any]]) -> Any:
    """Of each column, the error of the imputed cells and that of means or modes: RMSE in deviations, share wrong."""
    errors = {}
    for place, name in enumerate(frame):
        cell, truth = holes[:, place], frame[name].to_numpy()
        seen, found = truth[~cell], np.array(filled[name])
        assert (found[~cell] == truth[~cell]).all(), name
        if truth.dtype.kind == "f":
            spread = seen.std()
            both = [np.sqrt(np.mean((each - truth[cell]) ** 2)) / spread for each in (found[cell], seen.mean())]
        else:
            mode = pandas.Series(seen).mode()[0]
            both = [np.mean(found[cell] != truth[cell]), np.mean(mode != truth[cell])]
        errors[name] = tuple(map(float, both))
    return errors


@pytest.mark.parametrize("way", ["gibbs", pytest.param("absent", marks=pytest.mark.slow)])
def test_cells_of_a_made_up_table_are_better_than_means_and_modes(way: str) -> None:
    frame = made_up(400)
    with_holes, holes = cut(frame, 0.25)
    stack = dbn.pretrain(with_holes, hidden=[8], visible="auto", **OPTIONS[way], epochs=30)
    errors = compare(frame, with_holes, holes, stack.impute(with_holes, steps=50))
    for name, (imputed, plain) in errors.items():
        assert imputed < 0.85 * plain, (name, errors)


@pytest.mark.parametrize("way", ["gibbs", pytest.param("absent", marks=pytest.mark.slow)])
def test_cells_of_the_wine_table_are_better_than_means_and_modes(way: str) -> None:
    wine = load_wine(as_frame=True)
    frame = wine.data.astype(float).assign(cultivar=np.array(["a", "b", "c"])[wine.target])
    with_holes, holes = cut(frame, 0.2)
    stack = dbn.pretrain(with_holes, hidden=[12], visible="auto", **OPTIONS[way], epochs=60)
    errors = compare(frame, with_holes, holes, stack.impute(with_holes, steps=50))
    of_numbers = np.array([errors[name] for name in wine.data])
    assert np.sqrt((of_numbers**2).mean(0))[0] < 0.85 * np.sqrt((of_numbers**2).mean(0))[1], errors
    assert errors["cultivar"][0] < 0.3 * errors["cultivar"][1], errors
