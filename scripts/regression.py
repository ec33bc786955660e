"""Predict numbers from few labeled rows: networks from several initializations beside ridge and an RBF-SVR."""

import dbn.cli.first  # noqa: F401

# isort: split
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dbn.cli.command_line import run_script
from dbn.config.common import SeedOption
from dbn.config.validation import AtLeast2, Count
from dbn.errors import InputError

ARMS = ("dbn", "xavier_uniform", "xavier_uniform(gain=4)", "he_normal")
DATA = ("diabetes", "digits-ink", "friedman")


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(SeedOption):
    """Options of regression.py."""

    data: tuple[str, ...] = DATA
    """diabetes: progression after a year, of ten measurements. digits-ink: the ink of the lower half of a digit, from
    the upper half. friedman: 2,000 rows of scikit-learn's make_friedman1, of which noise of 1 cannot be predicted."""
    labels: AtLeast2 = 100
    """Labeled training rows; pre-training uses all of them."""
    seeds: Count = 5
    """Comparisons, and stacks, with --seed, --seed + 1, …."""
    output: Path | None = None
    """File that gets a line of JSON for each data set; those that it has are not measured again (default: none)."""


def main(config: RegressionConfig) -> None:
    """Print the RMSE of every model on every data set, in the units of the data."""
    import json

    for name in config.data:
        if name not in DATA:
            raise InputError(f"--data must be one of {', '.join(DATA)}, not {name!r}")
    lines = config.output.read_text().splitlines() if config.output and config.output.exists() else []
    done = {record["data"]: record for record in map(json.loads, lines)}
    for name in config.data:
        record = done.get(name) or measured(name, config)
        if config.output and name not in done:
            with config.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        print(f"{name}, {record['labels']} labels:", flush=True)
        for model, each in sorted(record["models"].items(), key=lambda item: item[1]["mean"]):
            p = "" if each["p"] is None else f", against dbn p = {each['p']:.3f}"
            print(
                f"  {model:<22} RMSE {each['mean']:.4g} ± {each['ci95'] or 0.0:.2g}, R² {each['r2']:.3f}{p}", flush=True
            )


def measured(name: str, config: RegressionConfig) -> dict[str, Any]:
    """Test RMSE and R² of every model under every seed. No model sees the test rows; all have the same labeled rows."""
    import torch

    import dbn
    from dbn.config.finetuning import Finetuning
    from dbn.data.cut import splits_from_arrays
    from dbn.finetuning.comparison import Comparison
    from dbn.finetuning.loading import make_problem
    from dbn.statistics import mean_interval, paired_t_test
    from dbn.tasks import TASKS

    x, y, visible = made(name, config.seed)
    splits = splits_from_arrays(x, y, name=name, cut_test=True, read_labels=TASKS["regress"].read)
    seeds = range(config.seed, config.seed + config.seeds)
    stacks = [dbn.pretrain(splits.train.x, visible=visible, seed=seed) for seed in seeds]
    options = Finetuning(task="regress", init=ARMS, labels=config.labels, seeds=config.seeds, seed=config.seed)
    problem = make_problem(splits, stacks, None, options, torch.device("cpu"))
    comparison = Comparison(problem, None)
    scores = comparison.test(comparison.train(progress=None))
    scores |= {model: [rival(problem, seed, models) for seed in seeds] for model, models in RIVALS.items()}
    found = {}
    for model, each in scores.items():
        rmse = [score.error for score in each]
        mean, half = mean_interval(rmse)
        p = paired_t_test(rmse, [score.error for score in scores["dbn"]]) if model != "dbn" and len(rmse) > 1 else None
        r2 = [score.r2[0] for score in each]
        found[model] = {"rmse": rmse, "mean": mean, "ci95": half, "r2": sum(r2) / len(r2), "p": p}
    sizes = {part: len(rows) for part, rows in splits.parts.items()}
    about = {"data": name, "labels": config.labels, "valid_labels": problem.valid_labels, "rows": sizes}
    return {**about, "hidden": list(problem.hidden), "models": found}


def made(name: str, seed: int) -> tuple[Any, Any, str]:
    """Rows, targets, and the kind of the visible units."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError("scikit-learn is not installed: pip install 'torch-dbn[sklearn]'") from error
    import numpy as np

    if name == "diabetes":
        x, y = datasets.load_diabetes(return_X_y=True)
        return x.astype(np.float32), y, "gaussian"
    if name == "friedman":
        x, y = datasets.make_friedman1(2000, noise=1.0, random_state=seed)
        return x.astype(np.float32), y, "gaussian"
    images = datasets.load_digits().images / 16
    return images[:, :4].reshape(len(images), -1).astype(np.float32), images[:, 4:].sum((1, 2)), "bernoulli"


def ridges() -> Iterator[Any]:
    """Linear models of several penalties."""
    from sklearn.linear_model import Ridge

    for penalty in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0):
        yield Ridge(alpha=penalty)


def machines() -> Iterator[Any]:
    """Support vector machines with a Gaussian kernel, of several costs, widths and tolerances."""
    from sklearn.svm import SVR

    for cost, width, tolerance in product((0.1, 1.0, 10.0, 100.0), (0.1, 0.3, 1.0, 3.0), (0.03, 0.1, 0.3)):
        yield width, SVR(C=cost, epsilon=tolerance)


RIVALS: dict[str, Callable[[], Iterator[Any]]] = {"ridge": ridges, "RBF-SVR": machines}


def rival(problem: Any, seed: int, models: Callable[[], Iterator[Any]]) -> Any:
    """Test scores of the model with the least validation RMSE, on inputs and targets that are scaled as for networks.

    The width of a kernel, exp(−width·|x − x'|²/m), is in the mean squared distance m of training rows.
    """
    import torch

    train, valid = problem.labeled(seed)
    task = problem.task_of(seed)
    x, x_valid, x_test = (problem.scaling(part.tensor).numpy() for part in (train, valid, problem.test))
    target = task.targets(train.y)[:, 0].numpy()
    distance = float(2 * x.var(0).sum())
    best: tuple[float, Any] | None = None
    for model in models():
        if isinstance(model, tuple):
            width, model = model
            model.set_params(gamma=width / distance)
        model.fit(x, target)
        error = task.error(torch.as_tensor(model.predict(x_valid))[:, None], valid.y)
        if best is None or error < best[0]:
            best = error, model
    assert best is not None
    return task.scores(torch.as_tensor(best[1].predict(x_test))[:, None], problem.test.y)


if __name__ == "__main__":
    run_script(main, RegressionConfig, __doc__)
