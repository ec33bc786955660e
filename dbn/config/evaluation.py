"""Options of evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dbn.config.validation import check_device, check_integer, check_output, normalize_fields
from dbn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """scripts/evaluate.py."""

    run: Path
    """A run of scripts/pretrain.py, or an RBM in a .npz or .safetensors file: weight, visible_bias, hidden_bias."""
    data: Path | None = None
    """Examples to score, a .npz (x, or x and x_test, or train and test), .npy or .csv file; or the data set's own."""
    dataset: str | None = None
    """As for scripts/pretrain.py; left out, the data set of --run."""
    data_dir: Path | None = None
    """Folder of the named data sets; left out, $DBN_DATA or the user's cache folder."""
    label_column: str | None = None
    """Column of a .csv file that holds labels, which are not looked at."""
    binarize: Literal["threshold", "sample", "fixed"] | None = None
    """Grey levels cut at 0.5 (threshold), or drawn once (sample, fixed); left out, as --run was trained."""
    exact: bool = False
    """Sum over every state of the smaller side, in place of AIS."""
    ais: int | Literal["published", "quick"] | None = None
    """Temperatures of AIS: published (14,501), quick (1,001), or a number, spaced as quick's; left out, published."""
    chains: int | None = None
    """Chains of every AIS run; left out, 100."""
    reverse: bool = True
    """Anneal back as well, from data and from the states AIS ended in: three times the work; and between layers."""
    seed: int = 0
    """Everything random follows from it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """The JSON file to write; left out, result.json in the run's folder."""

    def __post_init__(self) -> None:
        normalize_fields(self)
        check_integer(self, 1, "chains")
        check_integer(self, 0, "seed")
        if not isinstance(self.ais, str):
            check_integer(self, 2, "ais")
        check_device(self.device)
        check_output(self.output, self.run, self.data)
        for name, given in (("ais", self.ais), ("chains", self.chains), ("no-reverse", not self.reverse)):
            if self.exact and given:
                raise InputError(f"--{name} does not go with --exact, which takes the place of AIS.")

    def resolved(self) -> dict[str, Any]:
        """The values that stand for those left out; none with --exact."""
        ais, chains = (None, None) if self.exact else (self.ais or "published", self.chains or 100)
        return {"ais": ais, "chains": chains}
