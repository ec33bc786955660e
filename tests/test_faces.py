"""The public names of the library's packages."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

FACES = {
    "models": "RBM DBN Units Bernoulli Binomial DReLU Gaussian ReLU Spin Categorical UNITS Scaling",
    "sampling": "CHAINS DataChains PersistentChains TemperedChains",
    "likelihood": "set_gradient log_partition ais reverse_ais bracket pseudo_log_likelihood dbn_bound LogZ Bracket",
    "initializers": "from_dbn initialize INITIALIZERS parse_arm he_normal kaiming_normal xavier_uniform glorot_uniform",
}


@pytest.mark.parametrize("package", FACES)
def test_public_names_are_there_whatever_was_imported_before(package: str) -> None:
    module = import_module(f"dbn.{package}")
    for name in FACES[package].split():
        assert name in module.__all__
    for name in module.__all__:
        first, again = getattr(module, name), getattr(module, name)
        assert first is again
        assert type(first).__name__ != "module"


@pytest.mark.parametrize("package", ["models", "models.units", "sampling", "initializers"])
def test_names_cost_no_torch(package: str) -> None:
    code = f"import sys, dbn.{package}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], timeout=60)
