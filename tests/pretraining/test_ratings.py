"""Ratings of which nine in ten are missing, against a biased matrix factorization of the same rank."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dbn

TASTES = 4


def ratings(users: int, items: int, seed: int) -> tuple[NDArray, NDArray]:
    """Stars 1 … 5 of users with four tastes, for or against, and which tenth of them is seen, at least one a user."""
    rng = np.random.default_rng(seed)
    of_items = 3 + 0.3 * rng.normal(size=items), 0.6 * rng.normal(size=(TASTES, items))
    liked = of_items[0] + rng.choice([-1, 1], (users, TASTES)) @ of_items[1]
    stars = np.clip(np.rint(liked + 0.4 * rng.normal(size=liked.shape)), 1, 5)
    seen = rng.random(stars.shape) < 0.1
    seen[np.arange(users), rng.integers(items, size=users)] = True
    return stars, seen


def factorized(stars: NDArray, seen: NDArray, penalty: float, rounds: int = 15) -> NDArray:
    """μ + b_u + b_i + p_u·q_i by alternating ridge regressions, of users and of items; biases have the penalty 1."""
    rng = np.random.default_rng(0)
    mean = stars[seen].mean()
    start = [0.1 * rng.normal(size=(n, TASTES)) for n in stars.shape]
    users = np.hstack([start[0], np.zeros((len(stars), 1)), np.ones((len(stars), 1))])
    items = np.hstack([start[1], np.ones((stars.shape[1], 1)), np.zeros((stars.shape[1], 1))])
    ridge = np.diag([penalty] * TASTES + [1.0])
    for _ in range(rounds):
        for own, others, there, values, bias, fixed in (
            (users, items, seen, stars, TASTES, TASTES + 1),
            (items, users, seen.T, stars.T, TASTES + 1, TASTES),
        ):
            columns = [*range(TASTES), bias]
            x = others[:, columns]
            products = there @ (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
            targets = (there * (values - mean - others[:, fixed])) @ x
            left = products.reshape(len(own), TASTES + 1, TASTES + 1) + ridge
            own[:, columns] = np.linalg.solve(left, targets[..., None])[..., 0]
    found: NDArray = mean + users @ items.T
    return found


def rmse(stars: NDArray, predicted: NDArray, where: NDArray) -> float:
    return float(np.sqrt(np.mean((np.clip(predicted, 1, 5) - stars)[where] ** 2)))


@pytest.mark.parametrize(
    ("users", "items", "options", "share"),
    [
        (400, 80, {"epochs": 60, "batch_size": 40, "learning_rate": "0.2:0", "weight_decay": 0.01}, 1.1),
        pytest.param(
            1500,
            200,
            {"epochs": 120, "batch_size": 100, "learning_rate": "0.1:0", "weight_decay": 0.002},
            1.0,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_held_out_ratings_are_predicted_as_well_as_by_matrix_factorization(
    users: int, items: int, options: dict[str, Any], share: float
) -> None:
    """The rival's penalty is the best for the held-out ratings themselves, which no one could know."""
    stars, seen = ratings(users, items, seed=0)
    rival = min(rmse(stars, factorized(stars, seen, penalty), ~seen) for penalty in (0.5, 1.0, 2.0, 4.0, 8.0))
    x = np.where(seen, stars, np.nan)
    units: dict[str, Any] = {"visible": "gaussian", "hidden_units": "spin", "missing": "absent"}
    stack = dbn.pretrain(x, hidden=[TASTES], measure_every=options["epochs"], **units, **options)
    ours = rmse(stars, stack.impute(x, steps=50).numpy(), ~seen)
    plain = rmse(stars, np.broadcast_to(np.nanmean(x, 0), stars.shape), ~seen)
    print(f"RMSE: RBM {ours:.4f}, factorization {rival:.4f}, means of items {plain:.4f}")
    assert ours <= share * rival < plain
