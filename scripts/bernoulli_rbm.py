"""Logistic regression on features of RBMTransformer and of scikit-learn's BernoulliRBM: error and time."""

import dbn.cli.first  # noqa: F401

# isort: split
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbn.cli.command_line import run_script
from dbn.config.common import SeedOption
from dbn.config.validation import Count, Positive
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BernoulliRbmConfig(SeedOption):
    """Options of bernoulli_rbm.py."""

    components: Count = 100
    """Hidden units."""
    learning_rate: tuple[Positive, ...] = (0.03, 0.1, 0.3)
    """With batch sizes and epochs the grid that each model selects from, on a quarter of the training rows."""
    batch_size: tuple[Count, ...] = (50, 10)
    """The first of equals is selected."""
    n_iter: tuple[Count, ...] = (10, 20)
    """Epochs."""
    seeds: Count = 5
    """Splits of scikit-learn's digits, a fifth for testing, with --seed, --seed + 1, …."""
    output: Path | None = None
    """File that gets a line of JSON for each model and seed (default: none)."""


def main(config: BernoulliRbmConfig) -> None:
    """Print the test error of each model, and the seconds that its selected RBM takes to train, on an idle machine."""
    import json

    from dbn.statistics import mean_interval, paired_t_test

    seeds = range(config.seed, config.seed + config.seeds)
    errors = {}
    for model in ("RBMTransformer", "BernoulliRBM"):
        found = [measured(model, seed, config) for seed in seeds]
        if config.output:
            with config.output.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(each) + "\n" for each in found)
        errors[model] = [each["test_error"] for each in found]
        mean, half = mean_interval(errors[model])
        seconds = mean_interval([each["seconds"] for each in found])[0]
        print(f"{model:<15} test error {mean:.2f} ± {half or 0.0:.2f} %, {seconds:.2f} s", flush=True)
    if len(seeds) > 1:
        p = paired_t_test(errors["RBMTransformer"], errors["BernoulliRBM"])
        print("paired t-test:", "differences do not vary" if p is None else f"p = {p:.2g}")


def measured(model: str, seed: int, config: BernoulliRbmConfig) -> dict[str, Any]:
    """Test error in % of the pipeline that is selected on validation rows and fitted on all training rows."""
    import time

    try:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split
        from sklearn.neural_network import BernoulliRBM
        from sklearn.pipeline import Pipeline
    except ImportError as missing:
        raise InputError("scikit-learn is not installed: pip install 'torch-dbn[sklearn]'") from missing
    from dbn.sklearn import RBMTransformer

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=0.2, stratify=y, random_state=seed)
    rbm = {"RBMTransformer": RBMTransformer, "BernoulliRBM": BernoulliRBM}[model](config.components, random_state=seed)
    names = ("batch_size", "n_iter", "learning_rate")
    grid = {f"rbm__{name}": getattr(config, name) for name in names}
    pipeline = Pipeline([("rbm", rbm), ("classifier", LogisticRegression(C=100, max_iter=1000))])
    cut = ShuffleSplit(1, test_size=0.25, random_state=seed)
    search = GridSearchCV(pipeline, grid, cv=cut).fit(x_train, y_train)
    best = search.best_estimator_["rbm"]
    begin = time.perf_counter()
    best.fit(x_train)
    seconds = time.perf_counter() - begin
    error = 100 * (1 - search.score(x_test, y_test))
    return {
        "model": model,
        "seed": seed,
        **{n: getattr(best, n) for n in names},
        "test_error": error,
        "seconds": seconds,
    }


if __name__ == "__main__":
    run_script(main, BernoulliRbmConfig, __doc__)
