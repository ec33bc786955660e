"""Examples in docstrings give what they say, and every public function has one."""

import doctest
import inspect
import types
from importlib import import_module
from pathlib import Path

import pytest
import torch

import dbn.initializers
import dbn.likelihood
import dbn.sampling

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "dbn").rglob("*.py")
    if path.name != "__main__.py"
)
EXAMPLES = {
    dbn.likelihood: "set_gradient log_partition ais reverse_ais bracket pseudo_log_likelihood dbn_bound log_likelihood "
    "divergence sample set_exact_gradient Offsets",
    dbn.sampling: "DataChains PersistentChains TemperedChains",
    dbn.initializers: "from_dbn initialize parse_arm",
    import_module("dbn.models"): "RBM DBN Scaling",
}
"""Public functions and classes whose docstrings have an example."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = import_module(name)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        with torch.random.fork_rng(devices=[]):
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in EXAMPLES.items() for name in names.split()],
    ids=lambda value: value.__name__ if isinstance(value, types.ModuleType) else value,
)  # fmt: skip
def test_public_functions_have_an_example(package: types.ModuleType, name: str) -> None:
    assert name in package.__all__
    assert ">>> " in (inspect.getdoc(getattr(package, name)) or "")
