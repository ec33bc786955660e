"""Options of evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dbn.config.common import DataOptions, OutputConfig, SeedOption, check_divisor
from dbn.config.validation import AtLeast2, Count
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DataOptions, SeedOption, OutputConfig):
    """Options of evaluate."""

    run: Path
    """A run of pretrain, or an RBM in a .npz or .safetensors file: weight, visible_bias, hidden_bias."""
    data: Path | None = None
    """Examples to score: a file or folder; all rows, unless it has test rows of its own (default: the data set)."""
    binarize: Literal["threshold", "sample", "fixed"] | None = None
    """Gray levels: cut at 0.5 (threshold), or drawn once (sample, fixed) (default: as in training)."""
    exact: bool = False
    """Sum over every state of the smaller side in place of AIS."""
    ais: AtLeast2 | Literal["published", "quick"] | None = None
    """Temperatures of AIS: published (14,501), quick (1,001), or a number, spaced as quick's (default: published)."""
    chains: Count | None = None
    """Chains of every AIS run (default: 100)."""
    reverse: bool = True
    """Also anneal in reverse, from data and from the final states of AIS, and between layers: three times the work."""
    output: Path | None = None  # type: ignore[assignment]
    """JSON file to write (default: result.json in the run's folder)."""
    resume: bool = False
    """Continue an interrupted evaluation of the same options; its checkpoint is in a folder beside --output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_divisor(self)
        for name, given in (("ais", self.ais), ("chains", self.chains), ("no-reverse", not self.reverse)):
            if self.exact and given:
                raise InputError(f"--{name} does not go with --exact, which takes the place of AIS")

    @property
    def result(self) -> Path | None:
        """The file to write; None for a model in a file and no --output."""
        return self.output or (self.run / "result.json" if self.run.is_dir() else None)

    def resolved(self) -> dict[str, Any]:
        """Default values of what was left out; none with --exact."""
        ais, chains = (None, None) if self.exact else (self.ais or "published", self.chains or 100)
        return {"ais": ais, "chains": chains}
