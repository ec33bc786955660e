"""Options of the page that dreams."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dbn.config.common import Options
from dbn.config.inference import check_image_shape


@dataclass(frozen=True, kw_only=True)
class DreamConfig(Options):
    """Options of dream."""

    run: Path = field(metadata={"positional": True})
    """Folder of a run of pretrain, label-model or finetune."""
    output: Path | None = None
    """HTML file to write (default: dream.html in the run's folder)."""
    classifier: Path | None = None
    """Run of finetune whose best network judges what the stack is given and what it dreams (default: none)."""
    init: str | None = None
    """Arm of the run of finetune (default: the one with the lowest validation error)."""
    image_shape: str | None = None
    """HEIGHTxWIDTH, or CHANNELSxHEIGHTxWIDTH, such as 8x8, for a model of plain rows (default: that of the data)."""
    weights: Literal["float32", "float16"] = "float32"
    """Numbers in the file; float16 makes it half as large, and rounds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_image_shape(self.image_shape)
