"""Measure estimators by exact or annealed test log-likelihoods: the hidden field of PCD, and the defaults of each."""

import dbn.cli.first

# isort: split
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import dbn
from dbn.cli.command_line import run_script
from dbn.config.common import FolderOption, SeedOption
from dbn.config.validation import Count
from dbn.data.datasets import load_splits
from dbn.statistics import mean_interval
from dbn.text_tables import markdown_table

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EstimatorsConfig(FolderOption, SeedOption):
    """Options of estimators.py."""

    study: Literal["field", "defaults"] = "field"
    """PCD with the hidden field of the weights before and after the last update, or each estimator without options."""
    seeds: Count = 8
    """Runs with --seed, --seed + 1, …."""
    output: Path | None = None
    """File that gets a line of JSON for each run; those that it has are not repeated (default: none)."""


FIELD: dict[str, Record] = {
    "0.05:0, momentum 0.5,0.9@6": {"learning_rate": "0.05:0", "momentum": "0.5,0.9@6", "centered": False},
    "0.01:0, momentum 0.5,0.9@6": {"learning_rate": "0.01:0", "momentum": "0.5,0.9@6", "centered": False},
    "0.05:0": {"learning_rate": "0.05:0", "momentum": 0.0, "centered": False},
    "0.05:0, centered": {"learning_rate": "0.05:0", "momentum": 0.0, "centered": True},
    "0.4:0, centered": {"learning_rate": "0.4:0", "momentum": 0.0, "centered": True},
}
"""Settings of PCD."""
FIELD_ARMS: dict[str, Record] = {
    "fresh": {"estimator": "pcd", "epochs": 12},
    "lagged": {"estimator": "lagged-pcd", "epochs": 12},
    "lagged, 14 epochs": {"estimator": "lagged-pcd", "epochs": 14},
}
"""The last has 70 products for each 72 of the first."""
HIDDEN = {"mnist-10k": 100, "bars-and-stripes": 14, "patterns": 12, "digits": 14}
"""The data sets, with hidden units: for few of them log Z is exact."""


def main(config: EstimatorsConfig) -> None:
    """Run what the output lacks and print a table."""
    lines = config.output.read_text().splitlines() if config.output and config.output.exists() else []
    records = list(map(json.loads, lines))
    for plan, options in plans(config):
        if any(plan.items() <= record.items() for record in records):
            continue
        records.append(plan | measured(config, plan, options))
        if config.output:
            with config.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(records[-1]) + "\n")
    print(TABLES[config.study](records))


def plans(config: EstimatorsConfig) -> Iterator[tuple[Record, Record]]:
    """What identifies each run, and its options."""
    for seed in range(config.seed, config.seed + config.seeds):
        if config.study == "field":
            for setting, options in FIELD.items():
                for arm, more in FIELD_ARMS.items():
                    plan = {"study": "field", "data": "mnist-10k", "setting": setting, "arm": arm, "seed": seed}
                    yield plan, options | more | {"hidden": 14}
        else:
            for data, hidden in HIDDEN.items():
                for estimator in ARMS:
                    plan = {"study": "defaults", "data": data, "arm": estimator, "seed": seed}
                    yield plan, {"estimator": estimator, "hidden": hidden}


def measured(config: EstimatorsConfig, plan: Record, options: Record) -> Record:
    """log Z and log-likelihood of test rows, in nats; by 1,000 temperatures and 100 chains where it is not exact."""
    train, test = rows_of(plan["data"], config)
    rbm = dbn.train_rbm(train, seed=plan["seed"], device="cpu", measure_every=100, **options)
    how: Record = {"exact": True} if options["hidden"] < 20 else {"ais": 1000, "chains": 100}
    found = dbn.evaluate(rbm, test, **how).to_dict()
    return {name: round(float(found[name]), 4) for name in ("log_z", "test_log_likelihood")}


def rows_of(name: str, config: EstimatorsConfig) -> tuple[np.ndarray, np.ndarray]:
    """Binary rows for training and for the test."""
    rng = np.random.default_rng(7)
    if name == "mnist-10k":
        splits = load_splits(name, data_dir=config.data_dir)
        x, test = (
            np.concatenate([np.asarray(part.x) for part in parts if part]) > 127
            for parts in ((splits.train, splits.valid), (splits.test,))
        )
        return x.astype(np.uint8), test.astype(np.uint8)
    if name == "bars-and-stripes":
        bars = np.repeat(rng.random((1500, 4, 1)) < 0.5, 4, axis=2)
        x = np.where(rng.random((1500, 1, 1)) < 0.5, bars, bars.swapaxes(1, 2)).reshape(-1, 16)
    elif name == "patterns":
        patterns = rng.random((30, 64)) < 0.5
        x = patterns[rng.integers(0, 30, 12_000)] ^ (rng.random((12_000, 64)) < 0.25)
    else:
        from sklearn.datasets import load_digits

        x = rng.permutation(load_digits().data > 7)
    cut = len(x) // 3
    return x[cut:].astype(np.uint8), x[:cut].astype(np.uint8)


def field_table(records: list[Record]) -> str:
    """Paired differences in nats, mean ± 95 % interval over seeds."""
    value = {(r["setting"], r["arm"], r["seed"]): r["test_log_likelihood"] for r in records}
    seeds = sorted({record["seed"] for record in records})
    rows = []
    for setting in FIELD:
        fresh = [value[setting, "fresh", seed] for seed in seeds]
        against = [
            [mine - value[setting, arm, seed] for mine, seed in zip(fresh, seeds, strict=True)]
            for arm in FIELD_ARMS
            if arm != "fresh"
        ]
        rows.append((setting, f"{mean_interval(fresh).mean:.2f}", *map(shown, against)))
    return markdown_table(("rate", "fresh", "fresh − lagged", "fresh − lagged with as many products"), rows)


def defaults_table(records: list[Record]) -> str:
    """Mean ± 95 % interval over seeds."""
    rows = []
    for data, hidden in HIDDEN.items():
        found = [[r["test_log_likelihood"] for r in records if (r["data"], r["arm"]) == (data, arm)] for arm in ARMS]
        rows.append((f"{data}, {hidden} hidden", *map(shown, found)))
    return markdown_table(("data", *ARMS), rows)


def shown(values: list[float]) -> str:
    """A mean with its interval."""
    mean, half_width = mean_interval(values)
    return f"{mean:.2f} ± {half_width or 0.0:.2f}"


ARMS = ("cd", "pcd", "pt")
TABLES: dict[str, Callable[[list[Record]], str]] = {"field": field_table, "defaults": defaults_table}

if __name__ == "__main__":
    run_script(main, EstimatorsConfig, __doc__)
