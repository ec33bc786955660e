"""Who may import whom, and what no room does: print, exit, read a pickle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "dbn").rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
SOURCES = [*MODULES.values(), *sorted((ROOT / "scripts").rglob("*.py"))]

ANY_MAY = "arrays capture columns compiled errors registry rng statistics templates text_tables"
"""The modules at the top, which every package may import."""
PACKAGES = {
    "models": "",
    "sampling": "models",
    "likelihood": "models",
    "initializers": "models",
    "config": "",
    "storage": "",
    "data": "storage",
    "training": "storage",
    "plotting": "models data storage",
    "tasks": "models data storage plotting",
    "runs": "models data storage config tasks",
    "pretraining": "models sampling likelihood data config training runs storage plotting",
    "finetuning": "models initializers data config training runs storage plotting tasks",
    "evaluation": "models sampling likelihood data config training runs storage pretraining",
    "study": "models initializers data config training runs storage plotting tasks pretraining finetuning",
    "report": "models sampling config data runs storage plotting tasks finetuning evaluation",
    "dream": "models config runs storage tasks",
    "sklearn": "models likelihood config data training tasks pretraining finetuning",
    "benchmarks": "models sampling likelihood initializers config data training runs storage plotting pretraining "
    "finetuning evaluation study",
    "cli": "models sampling likelihood initializers config data training runs storage plotting pretraining finetuning "
    "evaluation study benchmarks report dream tasks __init__",
}
"""The packages, and those that each may import beside the modules at the top."""
TOP = {
    "__main__": "cli",
    "__init__": "models sampling likelihood initializers config data pretraining finetuning evaluation runs",
    **dict.fromkeys(ANY_MAY.split(), ""),
}

LIBRARIES = {
    "arrays": "torch numpy narwhals",
    "capture": "torch",
    "compiled": "torch",
    "benchmarks": "torch numpy sklearn rbms learnergy threadpoolctl",
    "cli": "torch tqdm yaml shtab",
    "data": "torch numpy torchvision narwhals pyarrow scipy safetensors sklearn PIL",
    "dream": "torch",
    "evaluation": "torch numpy safetensors",
    "plotting": "torch matplotlib PIL",
    "pretraining": "torch numpy",
    "report": "torch PIL",
    "runs": "torch yaml tensorboard google_crc32c PIL",
    "sklearn": "torch numpy sklearn",
    "statistics": "torch scipy",
    "storage": "torch numpy safetensors",
    "study": "torch tqdm",
    "tasks": "torch numpy",
    "templates": "jinja2",
    "text_tables": "tabulate",
    "training": "torch tqdm",
    "finetuning": "torch numpy",
    **dict.fromkeys(["models", "sampling", "likelihood", "initializers", "rng"], "torch"),
}
"""What a package may import from elsewhere."""

WITHOUT_TORCH = ("dbn.cli", "dbn.config", "dbn.columns", "dbn.errors", "dbn.training.interrupts", "dbn.text_tables",
                 "dbn.storage.files", "dbn.storage.npz", "dbn.storage.yaml_limits")  # fmt: skip
"""What `--help` waits for, and what works without torch."""

each_module = pytest.mark.parametrize("name", MODULES)


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that the source names in an import, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    return "__init__" if module == "dbn" else module.split(".")[1]


def packages(names: set[str]) -> set[str]:
    return {package_of(name) for name in names if name.split(".")[0] == "dbn"}


def libraries(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"dbn", *sys.stdlib_module_names}


def test_every_package_has_a_row_and_every_row_a_package() -> None:
    assert set(map(package_of, MODULES)) == {*PACKAGES, *TOP}


def test_imports_run_one_way() -> None:
    order = tuple(
        TopologicalSorter({name: set(row.split()) - {"__init__"} for name, row in PACKAGES.items()}).static_order()
    )
    assert set(order) == set(PACKAGES)
    assert "finetuning" not in PACKAGES["pretraining"].split()
    assert "pretraining" not in PACKAGES["finetuning"].split()


def test_only_those_who_ask_for_it_import_scikit_learn() -> None:
    rows = PACKAGES | TOP
    assert not [name for name, row in rows.items() if "sklearn" in row.split()]
    code = "import sys, dbn; dbn.pretrain, dbn.compare; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_the_package_costs_no_torch_and_no_extra_before_something_of_it_is_used() -> None:
    """`import dbn` is what every program waits for, and the extras are of those who ask for them."""
    extras = ["sklearn", "matplotlib", "pyarrow", "onnx", "onnxruntime", "onnxscript", "jinja2", "pandas", "polars"]
    heavy = ["torch", "numpy", "scipy", "tensorboard", "torchvision", "PIL", *extras]
    used = "[getattr(dbn, name) for name in dbn.__all__]; dbn.train_rbm(dbn.sampling.CHAINS and [[0.0, 1.0]] * 20, 2)"
    for done, absent in (("dir(dbn)", heavy), (used, extras)):
        code = f"import sys, dbn; {done}; print([name for name in {absent} if name in sys.modules])"
        found = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300, capture_output=True)
        assert found.stdout.decode().strip() == "[]"


def test_only_the_program_imports_the_command_line_and_only_the_command_line_the_benchmarks() -> None:
    rows = PACKAGES | TOP
    assert {name for name, row in rows.items() if "cli" in row.split()} == {"__main__"}
    assert {name for name, row in rows.items() if "benchmarks" in row.split()} == {"cli"}


def test_no_two_modules_import_each_other() -> None:
    graph = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # What a package offers is imported when it is asked for; its block for type checkers is not run.
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
        found = set(imported(tree))
        # `from dbn.config import study` names a module, `from dbn.config.study import StudyConfig` what is in one.
        graph[name] = {each for word in found for each in (word, word.rpartition(".")[0]) if each in MODULES}
    TopologicalSorter(graph).prepare()


@each_module
def test_a_package_imports_only_what_its_row_names(name: str) -> None:
    names = set(imported(ast.parse(MODULES[name].read_text(encoding="utf-8"))))
    package = package_of(name)
    row = (PACKAGES | TOP)[package]
    assert packages(names) <= {package, *row.split(), *ANY_MAY.split()}
    assert libraries(names) <= set(LIBRARIES.get(package, "").split())


EXITS = {"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit"}
PICKLES = {
    "pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "torch.save",
    "torch.load",
    "allow_pickle=True",
}


def offences(tree: ast.Module) -> set[str]:
    """What the source names for printing, exiting and unpickling."""
    harmless = {
        call.func
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "weights_only=True" in map(ast.unparse, call.keywords)  # builds tensors alone
    }
    nodes = set(ast.walk(tree)) - harmless
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
    modules = {word for name in imported(tree) for word in name.split(".")}
    arguments = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    return (names | {*imported(tree)} | arguments | modules) & (EXITS | PICKLES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("print('x')", {"print"}),
        ("from sys import exit", {"exit", "sys.exit"}),
        ("import sys\nsys.exit(2)", {"sys.exit"}),
        ("raise SystemExit(2)", {"SystemExit"}),
        ("import torch\ntorch.load('x')", {"torch.load"}),
        ("import torch\ntorch.load('x', weights_only=True)", set()),
        ("import torch\ntorch.load('x', weights_only=False)", {"torch.load"}),
        ("import torch\nf = torch.save", {"torch.save"}),
        ("from torch import load", {"torch.load"}),
        ("import pickle", {"pickle"}),
        ("from sklearn.externals.joblib import dump", {"joblib"}),
        ("def f():\n    import numpy\n    numpy.load('x', allow_pickle=True)", {"allow_pickle=True"}),
        ("import numpy\nnumpy.load('x', allow_pickle=False)", set()),
        ("import safetensors.torch\nsafetensors.torch.save({})", set()),
    ],
)
def test_an_offence_is_noticed(source: str, found: set[str]) -> None:
    assert offences(ast.parse(source)) == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_and_the_library_neither_prints_nor_exits(path: Path) -> None:
    script = path.parent.name in ("cli", "commands", "scripts")
    assert offences(ast.parse(path.read_text(encoding="utf-8"))) <= (EXITS if script else set())


def test_what_help_waits_for_does_not_import_torch() -> None:
    names = ["dbn", *(name for name in MODULES if name.startswith(WITHOUT_TORCH))]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_what_takes_long_is_imported_where_ctrl_c_ends_in_one_line() -> None:
    heavy = "{'tqdm', 'torch'} & set(sys.modules)"
    code = f"import sys, dbn.cli.command_line, dbn.config.study; sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_every_public_name_is_there_when_it_is_asked_for() -> None:
    code = """import dbn
print(*dir(dbn))
print(dbn.models.RBM.__name__, dbn.config.Pretraining.__name__)
print(*(getattr(dbn, name).__name__ for name in dbn.__all__))"""
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, timeout=120)
    listed, deeper, public = (set(line.split()) for line in result.stdout.decode().splitlines())
    assert {"pretrain", "train_rbm", "compare", "load", "models", "sampling", "config"} <= listed
    assert deeper == {"RBM", "Pretraining"}
    assert {"DBN", "RBM", "InputError", "load", "pretrain"} <= public
