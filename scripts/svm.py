"""Train a support vector machine with a Gaussian kernel, as a baseline for the networks."""

import dbn.cli.first  # noqa: F401

# isort: split
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from dbn.cli.command_line import run_script
from dbn.config.common import DataConfig, MeasurementConfig, SeedOption
from dbn.config.validation import AtLeast2, Count, Positive
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SvmConfig(SeedOption, MeasurementConfig):
    """Options of svm.py."""

    data: DataConfig = field(default_factory=DataConfig)
    labels: AtLeast2 | None = None
    """Labeled training examples, those that finetune draws under the same seed (default: all)."""
    valid_labels: AtLeast2 | None = None
    """Labeled examples that select C and gamma (default: as many as --labels and at most 1000; all with all labels)."""
    seeds: Count = 1
    """Repetitions with --seed, --seed + 1, …, which draw other labels."""
    c: tuple[Positive, ...] = (1.0, 10.0, 100.0)
    """Cost of a violated margin; the value with the lowest validation error is selected."""
    gamma: tuple[Positive, ...] = (0.3, 1.0, 3.0)
    """Of exp(−gamma·|x − x'|²/m), m the mean squared distance of training examples; selected likewise."""


def main(config: SvmConfig) -> None:
    """Fit a machine for every C and gamma under every seed, test the best of each seed, print a line."""
    import json

    from dbn.config.finetuning import Finetuning
    from dbn.data.datasets import load_splits
    from dbn.finetuning.problem import Problem
    from dbn.models.scaling import Scaling
    from dbn.statistics import mean_interval
    from dbn.storage.files import atomic_write
    from dbn.training.loop import progress_bar

    try:
        import sklearn.svm  # noqa: F401
    except ImportError as error:
        raise InputError("scikit-learn is not installed: pip install scikit-learn") from error
    data = config.data
    splits = load_splits(data.dataset, **data.reading())
    splits.check_labels()
    everything = len(splits.valid.labeled()) if config.labels is None else None
    options = Finetuning(
        init=("he_normal",),
        labels=config.labels,
        valid_labels=config.valid_labels or everything,
        seeds=config.seeds,
        seed=config.seed,
    )
    problem = Problem(splits, Scaling.fitted(splits.train.x, splits.divisor), (1,), (), options)
    with progress_bar(len(config.c) * len(config.gamma) * config.seeds, "machines", shown=True) as bar:
        found = [{"seed": seed, **best(problem, seed, config, bar)} for seed in problem.seeds]
    errors = [each["test_error"] for each in found]
    mean, half = mean_interval(errors)
    interval = "" if half is None else f" ± {half:.2f}"
    chosen = ", ".join(f"C {each['c']:g} gamma {each['gamma']:g}" for each in found)
    if config.output:
        report = {"dataset": splits.name, "labels": problem.labels, "test_error": errors, "seeds": found}
        atomic_write(config.output, (json.dumps(report, indent=2) + "\n").encode())
    print(f"{splits.name}, {problem.labels:,} labels, {problem.valid_labels:,} for validation, seeds {config.seeds}:")
    print(f"RBF-SVM test error {mean:.2f}{interval} % (kept: {chosen})")


def best(problem: Any, seed: int, config: SvmConfig, bar: Any) -> dict[str, float]:
    """The C and gamma with the least validation error (ties: the smaller), and the test error under them."""
    from sklearn.svm import SVC

    from dbn.data.examples import labels_of

    train, valid = problem.labeled(seed)
    x, x_valid, x_test = (problem.scaling(part.x) for part in (train, valid, problem.test))
    y, y_valid, y_test = (labels_of(part).numpy() for part in (train, valid, problem.test))
    spread = float(2 * x.var(0, correction=0).sum())  # the mean of |x − x'|² over pairs
    within, to_valid = squared_distances(x, x), squared_distances(x_valid, x)
    kept: tuple[float, float, float, Any] | None = None
    for gamma, c in product(sorted(config.gamma), sorted(config.c)):
        kernel = [(-gamma / spread * part).exp_().numpy() for part in (within, to_valid)]
        machine = SVC(C=c, kernel="precomputed", cache_size=1000).fit(kernel[0], y)
        error = 100.0 * float((machine.predict(kernel[1]) != y_valid).mean())
        if kept is None or error < kept[0]:
            kept = error, c, gamma, machine
        bar.update()
    assert kept is not None
    error, c, gamma, machine = kept
    wrong = 0
    for rows, truth in zip(x_test.split(5000), range(0, len(x_test), 5000), strict=True):
        kernel_rows = (-gamma / spread * squared_distances(rows, x)).exp_().numpy()
        wrong += int((machine.predict(kernel_rows) != y_test[truth : truth + len(rows)]).sum())
    return {"c": c, "gamma": gamma, "valid_error": error, "test_error": 100.0 * wrong / len(x_test)}


def squared_distances(a: Any, b: Any) -> Any:
    """|a_i − b_j|², (N, M), by one product: scikit-learn's own kernel goes pair by pair."""
    inner = a @ b.T
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
    return (squares - 2 * inner).clamp_(min=0)


if __name__ == "__main__":
    run_script(main, SvmConfig, __doc__)
