"""Measure the defaults: pre-training and a comparison without options on data sets of 150 to 60,000 rows."""

import dbn.cli.first  # noqa: F401

# isort: split
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbn.cli.command_line import run_script
from dbn.config.common import FolderOption, SeedOption
from dbn.config.validation import AtLeast2, Count
from dbn.errors import InputError

ARMS = ("dbn", "xavier_uniform", "he_normal")
REAL, BUNDLED = ("iris", "wine", "breast_cancer", "diabetes"), ("mnist-10k", "mnist")
DATA = (*REAL, "digits", "made-real", "made-binary", *BUNDLED)


@dataclass(frozen=True, kw_only=True)
class DefaultsConfig(FolderOption, SeedOption):
    """Options of defaults.py."""

    data: tuple[str, ...] = DATA[:-1]
    """Names of data sets: scikit-learn's iris, wine, breast_cancer, diabetes (above or below the median) and digits,
    made-real and made-binary, mnist-10k and mnist."""
    labels: AtLeast2 = 200
    """Labeled examples, or all where there are fewer."""
    seeds: Count = 5
    """Comparisons with --seed, --seed + 1, …."""
    stacks: Count | None = None
    """Stacks, with the same seeds (default: one a seed)."""
    output: Path | None = None
    """File that gets a line of JSON for each data set; those that it has are not measured again (default: none)."""


def main(config: DefaultsConfig) -> None:
    """Print one line for each data set: test errors of the arms in %."""
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
        arms = record["arms"]
        errors = "  ".join(f"{arm} {arms[arm]['mean']:.2f} ± {arms[arm]['ci95'] or 0.0:.2f}" for arm in ARMS)
        print(f"{name}, {record['rows']:,} rows, {record['labels']} labels: {errors}", flush=True)


def measured(name: str, config: DefaultsConfig) -> dict[str, Any]:
    """The comparison on one data set. No stack sees the test rows."""
    import torch

    import dbn

    splits = splits_of(name, config)
    x, y = (torch.cat([getattr(splits.train, part), getattr(splits.valid, part)]) for part in ("x", "y"))
    visible = "gaussian" if name in (*REAL, "made-real") else "bernoulli"
    seeds = range(config.seed, config.seed + (config.stacks or config.seeds))
    found = dbn.compare(
        x,
        y,
        ARMS,
        x_test=splits.test.x,
        y_test=splits.test.y,
        pretrained=[dbn.pretrain(x, visible=visible, seed=seed) for seed in seeds],
        labels=config.labels if config.labels < len(splits.train) else None,
        seeds=config.seeds,
        seed=config.seed,
    )
    return {"data": name, "rows": len(x), **found.to_dict()}


def splits_of(name: str, config: DefaultsConfig) -> Any:
    """The rows, of which a fifth are for the test where there is no test set."""
    import numpy as np

    from dbn.data.cut import splits_from_arrays
    from dbn.data.datasets import load_splits

    if name in BUNDLED:
        return load_splits(name, data_dir=config.data_dir)
    if name.startswith("made"):
        return splits_from_arrays(*(made_real() if name == "made-real" else made_binary()), cut_test=True)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError("scikit-learn is not installed: pip install 'torch-dbn[sklearn]'") from error
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":
        y = y > np.median(y)
    return splits_from_arrays((x / 16 if name == "digits" else x).astype(np.float32), y.astype(int), cut_test=True)


def made_real(n: int = 3000) -> tuple[Any, Any]:
    """Four classes of three curved clusters in six latent dimensions, seen in 20 columns of unlike scales."""
    import numpy as np

    rng = np.random.default_rng(7)
    y = np.arange(n) % 4
    centers, inner, outer = rng.normal(size=(4, 3, 6)) * 1.2, rng.normal(size=(6, 24)) / 2, rng.normal(size=(24, 20))
    latent = centers[y, rng.integers(0, 3, n)] + rng.normal(size=(n, 6)) * 0.7
    x = np.tanh(latent @ inner) @ outer + rng.normal(size=(n, 20)) * 0.5
    return (x * np.logspace(-1, 2, 20)).astype(np.float32), y


def made_binary(n: int = 60_000) -> tuple[Any, Any]:
    """Five classes of six patterns of 64 bits, of which a quarter is flipped."""
    import numpy as np

    rng = np.random.default_rng(7)
    y = np.arange(n) % 5
    patterns = rng.random((5, 6, 64)) < 0.5
    return (patterns[y, rng.integers(0, 6, n)] ^ (rng.random((n, 64)) < 0.25)).astype(np.uint8), y


if __name__ == "__main__":
    run_script(main, DefaultsConfig, __doc__)
