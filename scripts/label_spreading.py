"""Spread labels over a graph of nearest neighbors, as a baseline that learns from rows without a label, too."""

import dbn.cli.first  # noqa: F401

# isort: split
import json
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from dbn.cli.command_line import run_script
from dbn.config.common import DataConfig, MeasurementConfig, SeedOption
from dbn.config.validation import AtLeast2, Between, Count
from dbn.errors import InputError

STEPS = 150
ARM = "label spreading"


@dataclass(frozen=True, kw_only=True)
class SpreadingConfig(SeedOption, MeasurementConfig):
    """Options of label_spreading.py."""

    data: DataConfig = field(default_factory=DataConfig)
    labels: tuple[AtLeast2, ...] = (100,)
    """Numbers of labeled training examples, those that finetune draws under the same seed; the others have none."""
    valid_labels: AtLeast2 | None = None
    """Labeled examples that select neighbors and alpha (default: as many as --labels and at most 1000)."""
    seeds: Count = 1
    """Repetitions with --seed, --seed + 1, …, which draw other labels."""
    neighbors: tuple[Count, ...] = (5, 10, 15)
    """Nearest training rows that a row is joined to; the number with the lowest validation error is selected."""
    alpha: tuple[Between, ...] = (0.9, 0.99, 0.999)
    """How much of a row's label comes from its neighbors in a step; selected likewise."""


def main(config: SpreadingConfig) -> None:
    """Spread the labels for every number of neighbors and alpha under every seed, test the best, print a line each."""
    from dbn.config.finetuning import Finetuning
    from dbn.data.datasets import load_splits
    from dbn.finetuning.problem import Problem
    from dbn.models.scaling import Scaling
    from dbn.statistics import mean_interval
    from dbn.storage.files import atomic_write

    splits = load_splits(config.data.dataset, **config.data.reading())
    splits.check_labels()
    scaling, records = Scaling.fitted(splits.train.x, splits.divisor), []
    if len(splits.train) <= max(config.neighbors):
        raise InputError(f"--neighbors {max(config.neighbors)} is not below the {len(splits.train):,} training rows")
    problems = [
        Problem(
            splits,
            scaling,
            (1,),
            (),
            Finetuning(
                init=("he_normal",), labels=n, valid_labels=config.valid_labels, seeds=config.seeds, seed=config.seed
            ),
        )
        for n in config.labels
    ]
    near = Neighbors(problems[0], max(config.neighbors))
    for problem in problems:
        chosen = {seed: best(problem, seed, near, config) for seed in problem.seeds}
        mean, half = mean_interval([each["test_error"] for each in chosen.values()])
        interval = "" if half is None else f" ± {half:.2f}"
        print(f"{splits.name}, {problem.labels:,} labels: {ARM}, test error {mean:.2f}{interval} %", flush=True)
        about = {"arm": ARM, "labels": problem.labels, "valid_labels": problem.valid_labels}
        records += [about | {"seed": seed, **each} for seed, each in chosen.items()]
    if config.output:
        atomic_write(config.output, "".join(json.dumps(each) + "\n" for each in records).encode())


class Neighbors:
    """The k nearest training rows of training, validation and test rows, and their squared distances, all (N, k)."""

    def __init__(self, problem: Any, k: int) -> None:
        import torch
        from svm import squared_distances

        x = problem.scaling(problem.splits.train.x)

        def nearest(rows: Any, *, itself: bool) -> tuple[Any, Any]:
            found = [squared_distances(part, x).topk(k + itself, largest=False) for part in rows.split(1000)]
            numbers, squares = (torch.cat([each[place] for each in found])[:, itself:].numpy() for place in (1, 0))
            return numbers, squares

        self.train = nearest(x, itself=True)
        self.valid = nearest(problem.scaling(problem.splits.valid.x), itself=False)
        self.test = nearest(problem.scaling(problem.test.x), itself=False)


def best(problem: Any, seed: int, near: Neighbors, config: SpreadingConfig) -> dict[str, float]:
    """The number of neighbors and alpha with the least validation error (ties: the first), and their test error."""
    from dbn.data.examples import labels_of

    train, valid = problem.labeled(seed)
    (labeled, y), (valid_rows, y_valid) = (
        (places(part.tensor, whole.tensor), labels_of(part).numpy())
        for part, whole in ((train, problem.splits.train), (valid, problem.splits.valid))
    )
    y_test, kept = labels_of(problem.test).numpy(), None
    for k, alpha in product(sorted(config.neighbors), sorted(config.alpha)):
        rows, squares = (each[:, :k] for each in near.train)
        mass = spread_labels(rows, squares, labeled, y, problem.task.outputs, alpha)
        errors = [
            100.0 * float((classes_at(found[:, :k], far[:, :k], mass, squares.mean()) != truth).mean())
            for (found, far), truth in (((each[valid_rows] for each in near.valid), y_valid), (near.test, y_test))
        ]
        if kept is None or errors[0] < kept["valid_error"]:
            kept = {"neighbors": k, "alpha": alpha, "valid_error": errors[0], "test_error": errors[1]}
    assert kept is not None
    return kept


def spread_labels(near: Any, squares: Any, labeled: Any, y: Any, n_classes: int, alpha: float) -> Any:
    """How much of each class reaches each row, (N, C): F ← α·S·F + (1 − α)·Y, with S = D^(−½)·W·D^(−½).

    W has exp(−|x − x'|²/m) between neighbors, m the mean of |x − x'|². Every class has the same mass in Y and in the
    end. Zhou, Bousquet, Lal, Weston & Schölkopf (2004), "Learning with local and global consistency"; class masses
    after Zhu, Ghahramani & Lafferty (2003).
    """
    import numpy as np
    from scipy import sparse

    n, k = near.shape
    weights = np.exp(-squares / squares.mean()).ravel()
    graph = sparse.csr_matrix((weights, (np.repeat(np.arange(n), k), near.ravel())), (n, n))
    graph = graph.maximum(graph.T)
    scale = sparse.diags(1 / np.sqrt(np.asarray(graph.sum(1)).ravel()))
    step = scale @ graph @ scale
    given = np.zeros((n, n_classes))
    given[labeled, y] = 1
    given /= given.sum(0)
    found = given
    for _ in range(STEPS):
        found = alpha * (step @ found) + (1 - alpha) * given
    return found / found.sum(0)


def classes_at(near: Any, squares: Any, mass: Any, spread: float) -> Any:
    """Of rows beyond the graph: the class with the most mass among the neighbors, by weights as within it, (M,)."""
    import numpy as np

    return (np.exp(-squares / spread)[:, :, None] * mass[near]).sum(1).argmax(1)


def places(part: Any, whole: Any) -> Any:
    """The numbers of some rows of `whole`, which may be there more than once."""
    import numpy as np

    numbers = {row.tobytes(): number for number, row in enumerate(whole.numpy())}
    return np.array([numbers[row.tobytes()] for row in part.numpy()])


if __name__ == "__main__":
    run_script(main, SpreadingConfig, __doc__)
