"""Options of sampling and prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dbn.config.validation import check_device, check_integer, check_output, normalize_fields
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """scripts/sample.py."""

    run: Path
    """A run of scripts/pretrain.py."""
    output: Path
    """The PNG file to write."""
    start: Literal["data", "noise"] = "data"
    """What the Gibbs chains start from."""
    count: int = 64
    """Images in the grid."""
    steps: int = 1000
    """Gibbs steps in the top RBM."""
    seed: int = 0
    """Everything random follows from it."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        if self.output.suffix.lower() != ".png":
            raise InputError(f"--output {self.output} must end in .png, as that is what is written.")
        check_integer(self, 1, "count", "steps")
        check_integer(self, 0, "seed")
        check_device(self.device)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """scripts/predict.py."""

    run: Path
    """A run of scripts/finetune.py."""
    data: Path
    """The examples: a .npz, .npy or .csv file."""
    label_column: str | None = None
    """Column of a .csv file that holds labels, which are not looked at."""
    output: Path
    """The CSV file to write: a row of class probabilities an example."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_device(self.device)
        check_output(self.output, self.data)
