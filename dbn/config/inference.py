"""Options of sampling and prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dbn.config.common import FolderOption, OutputConfig, ReadingOptions, SeedOption, check_divisor
from dbn.config.validation import Count
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SampleConfig(FolderOption, SeedOption, OutputConfig):
    """Options of sample."""

    start: Literal["data", "noise"] = "data"
    """Initial states of the Gibbs chains."""
    count: Count = 64
    """Images in the grid."""
    steps: Count = 1000
    """Gibbs steps in the top RBM."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output.suffix.lower() != ".png":
            raise InputError(f"--output {self.output} must end in .png, the only format that is written.")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ReadingOptions, OutputConfig):
    """Options of predict."""

    data: Path
    """The examples: a .npz, .npy or .csv file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisor(self)
