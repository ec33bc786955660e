"""Types of the keyword options of `dbn.pretrain` and `dbn.train_rbm`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from dbn.arrays import Array
from dbn.training.checkpoint_control import Callback

Schedule = float | str


class PretrainingOptions(TypedDict, total=False):
    """The fields of `dbn.config.Pretraining` but `hidden`, documented there; a sequence has one value per layer."""

    epochs: int | Sequence[int]
    batch_size: int
    learning_rate: Schedule | Sequence[Schedule] | None
    warmup_epochs: int
    estimator: str
    gibbs_steps: int | str | Sequence[int | str]
    chains: int | None
    temperatures: int | None
    centered: bool
    optimizer: str
    momentum: Schedule | None
    weight_decay: float
    penalty: str | Sequence[str]
    l1: float
    sparsity_target: float | None
    sparsity_cost: float | None
    max_norm: float | None
    average: float | None
    precision: Literal["float32", "tf32", "bf16"]
    compile: bool
    visible: str
    column_kinds: Mapping[str, str] | Sequence[str]
    hidden_units: str | Sequence[str]
    missing: Literal["refuse", "gibbs", "absent"]
    missing_steps: int | None
    binarize: Literal["none", "threshold", "sample", "fixed"]
    tied: bool
    features: Literal["mean", "sample"]
    measure_every: int
    likelihood_every: int
    picture_every: int
    seed: int


class PretrainArguments(PretrainingOptions, total=False):
    """The keyword arguments of `dbn.pretrain`, documented there."""

    run: Path | str | None
    resume: bool
    overwrite: bool
    device: str
    progress: bool | None
    callback: Callback | None
    divisor: float | Literal["max"] | None
    sample_weight: Array | str | None
