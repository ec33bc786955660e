"""Options of the report."""

from dataclasses import dataclass, field
from pathlib import Path

from dbn.config.common import Options
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Options):
    """Options of report."""

    run: tuple[Path, ...] = field(metadata={"positional": True})
    """Folders of runs of pretrain, label-model, finetune or study."""
    output: Path | None = None
    """HTML file to write, of one run (default: report.html in the run's folder)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and len(self.run) > 1:
            raise InputError(f"--output names one file, but there are {len(self.run)} runs: leave it out")
