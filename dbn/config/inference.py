"""Options of sampling, prediction and features."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dbn.config.common import FolderOption, OutputConfig, ReadingOptions, SeedOption, check_divisor
from dbn.config.evaluation import EvaluateConfig
from dbn.config.validation import AtLeast2, Count, Natural, check_distinct
from dbn.errors import InputError

RowValue = Literal["features", "reconstruction", "free-energy", "log-likelihood", "pseudo-likelihood"]
Binarization = Literal["threshold", "sample", "fixed"]


def check_image_shape(text: str | None) -> None:
    """InputError for text that is not HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH."""
    if text is not None and not re.fullmatch(r"([13]x)?[1-9]\d*x[1-9]\d*", text):
        raise InputError(
            f"--image-shape must be HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH with 1 or 3 channels, such as 8x8, not "
            f"{text!r}"
        )


@dataclass(frozen=True, kw_only=True)
class SampleConfig(FolderOption, SeedOption, OutputConfig):
    """Options of sample."""

    start: Literal["data", "noise", "tempered"] = "data"
    """data: a Gibbs chain from each of --count validation rows, which shows what the model knows of the data. noise:
    from independent units. tempered: parallel tempering, which samples the model itself, be it like the data or not."""
    count: Count | None = None
    """Images in the grid, or rows of a table (default: 64, or as many as there are validation rows to start from)."""
    steps: Count | None = None
    """Gibbs steps in the top RBM, of tempered chains between two images (default: 100 from data, 1000 from noise, 20
    of tempered chains)."""
    chains: Count | None = None
    """Tempered chains, each of which gives several images (default: 16)."""
    temperatures: AtLeast2 | None = None
    """Temperatures of tempered chains (default: 20)."""
    draws: bool = False
    """Draws of the visible units in place of their means; of a label model states in place of means in all layers."""
    classifier: Path | None = None
    """Run of finetune whose best classifier counts the classes among the images (default: none)."""
    image_shape: str | None = None
    """HEIGHTxWIDTH, or CHANNELSxHEIGHTxWIDTH, such as 8x8, for a model of plain rows (default: that of the data)."""
    scale: Count | None = None
    """Height and width in the file of a pixel (default: images of about 80 pixels)."""
    label: str | None = None
    """Class of the samples, of a run of label-model (default: any)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output.suffix.lower() not in (".png", ".csv"):
            raise InputError(f"--output {self.output} must end in .png, or in .csv for a stack of a table")
        check_image_shape(self.image_shape)
        for name in ("chains", "temperatures"):
            if getattr(self, name) is not None and self.start != "tempered":
                raise InputError(f"--{name} does not go with --start {self.start}: leave it out, or use tempered")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ReadingOptions, OutputConfig):
    """Options of predict."""

    data: Path
    """The examples: a file or folder of any kind that --dataset takes. Where it has labels, scores are printed."""
    init: str | None = None
    """Arm of the run that predicts (default: the one with the lowest validation error)."""
    columns: Literal["probabilities", "class", "all"] = "probabilities"
    """probabilities: a column for each class. class: predicted_class and predicted_probability. all: both of these."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisor(self)
        if self.output.suffix.lower() != ".csv":
            raise InputError(f"--output {self.output} must end in .csv, the only format that is written")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(ReadingOptions, SeedOption, OutputConfig):
    """Options of features."""

    data: Path
    """The examples: a file or folder of any kind that --dataset takes."""
    output: Path
    """File to write: .csv, .npz with an array for each of --write, or .npy for one of them."""
    write: tuple[RowValue, ...] = ("features",)
    """features: mean activities. reconstruction: through the layers and back. free-energy: in nats. log-likelihood: in
    nats, exact up to 2²⁵ states, else by AIS with an interval; a lower bound above the first layer. pseudo-likelihood:
    of the first layer."""
    layer: Count | None = None
    """Layer, counted from 1 at the data (default: the top one)."""
    binarize: Binarization | None = None
    """For likelihoods of gray levels: cut at 0.5, or drawn once (default: as in training)."""
    ais: AtLeast2 | Literal["published", "quick"] = "quick"
    """Temperatures of AIS: quick (1,001), published (14,501), or a number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisor(self)
        check_distinct(self, "write")
        if self.output.suffix.lower() not in (".csv", ".npy", ".npz"):
            raise InputError(f"--output {self.output} must end in .csv, .npy or .npz")
        if self.output.suffix.lower() == ".npy" and len(self.write) > 1:
            raise InputError(f"--output {self.output} holds one array: name a .npz file, or one of --write")

    @property
    def likelihood(self) -> EvaluateConfig:
        """How log-likelihoods are measured."""
        return EvaluateConfig(
            run=self.run,
            binarize=self.binarize,
            ais=self.ais,
            seed=self.seed,
            device=self.device,
            reverse=False,
            divisor=self.divisor,
        )


@dataclass(frozen=True, kw_only=True)
class ImputeConfig(ReadingOptions, SeedOption, OutputConfig):
    """Options of impute."""

    data: Path
    """Rows with holes, which are empty cells or NaN: a file or folder of any kind that --dataset takes."""
    output: Path
    """File to write: .csv with the columns of the data, or .npy."""
    draws: bool = False
    """Samples in place of means and of the most probable categories."""
    steps: Count = 100
    """Gibbs steps that are averaged."""
    discard: Natural = 20
    """Gibbs steps before them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisor(self)
        if self.output.suffix.lower() not in (".csv", ".npy"):
            raise InputError(f"--output {self.output} must end in .csv or .npy")
