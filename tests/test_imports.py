"""Who may import whom, and what no room does: print, exit, read a pickle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {path.stem: path for path in sorted((ROOT / "dbn").glob("*.py"))}
SOURCES = [*MODULES.values(), *sorted((ROOT / "scripts").rglob("*.py"))]

ANY_ROOM_MAY = {"errors", "randomness"}
ROOMS = {
    "__init__": "belief_net pretraining rbm units weights",
    "annealing": "rbm units",
    "arrays": "",
    "assessment": "belief_net config exact held_out importance layer_gain layer_partitions likelihood rbm training",
    "assessment_report": "",
    "belief_net": "mlp rbm scaling units",
    "chains": "annealing rbm",
    "checkpoints": "storage",
    "checks": "schedules",
    "command_line": "checks config options ranks stopping",
    "comparison": (
        "evaluation events finetuning fit_events initializers mlp outcomes problem ranks runs stopping storage "
        "training weights"
    ),
    "config": "checks hyperparameters",
    "datasets": "files lab_faults made_data scaling tables vision",
    "drawing": "evaluation",
    "draws": "",
    "dropout": "mlp",
    "errors": "",
    "evaluation": "rbm",
    "events": "storage",
    "exact": "gradient rbm",
    "files": "arrays tables",
    "finetuning": "datasets dropout evaluation initializers mlp outcomes problem products ranks storage training",
    "fit_events": "events finetuning initializers outcomes problem signals",
    "foreign": "arrays belief_net rbm scaling storage units weights",
    "gradient": "products rbm units",
    "held_out": "belief_net config datasets files foreign layer_data problem runs scaling tables units",
    "hyperparameters": "checks schedules",
    "importance": "annealing",
    "initializers": "belief_net mlp starts",
    "lab_faults": "tables",
    "layer_data": "datasets rbm scaling",
    "layer_gain": "annealing importance rbm units",
    "layer_partitions": (
        "annealing belief_net chains config exact held_out importance layer_data layer_gain rbm training"
    ),
    "layer_training": (
        "chains gradient hyperparameters layer_data monitoring penalties ranks rbm runs shared_chains "
        "stopping storage training watching"
    ),
    "likelihood": "belief_net rbm units",
    "locks": "storage",
    "made_data": "draws shapes tables vision",
    "mlp": "",
    "monitoring": "annealing evaluation events hyperparameters importance layer_data likelihood pictures rbm runs",
    "options": "checks plain_yaml",
    "outcomes": "initializers signals storage",
    "penalties": "gradient rbm",
    "pictures": "rbm scaling storage vision",
    "plain_yaml": "",
    "plots": "drawing storage",
    "pretraining": (
        "belief_net config datasets hyperparameters layer_data layer_training monitoring ranks rbm resuming "
        "runs scaling schedules storage training units weights"
    ),
    "problem": (
        "belief_net config datasets hyperparameters initializers mlp ranks runs scaling starts storage training weights"
    ),
    "products": "",
    "randomness": "",
    "ranks": "storage workers",
    "rbm": "products units",
    "report": "comparison evaluation outcomes problem runs storage",
    "resuming": "locks runs",
    "runs": "checkpoints locks plain_yaml storage versions",
    "scaling": "",
    "schedules": "",
    "shapes": "draws",
    "shared_chains": "chains ranks rbm",
    "signals": "assessment_report events mlp",
    "starts": "belief_net mlp",
    "stopping": "",
    "storage": "",
    "study": (
        "belief_net comparison config datasets fit_events hyperparameters initializers outcomes pretraining "
        "problem report resuming runs scaling study_config study_grid training weights"
    ),
    "study_config": "checks config hyperparameters",
    "study_grid": "config mlp study_config",
    "study_report": "comparison evaluation runs signals study study_grid",
    "study_run": "config plots runs storage study study_config study_grid study_report training workers",
    "tables": "",
    "training": "ranks",
    "units": "",
    "versions": "",
    "vision": "tables",
    "watching": "",
    "weights": "belief_net mlp scaling storage",
    "workers": "stopping",
}
"""The rooms of the package, and those that each may import."""

LIBRARIES = {
    "arrays": "numpy",
    "command_line": "tqdm tyro yaml",
    "datasets": "numpy",
    "drawing": "matplotlib",
    "draws": "numpy",
    "evaluation": "scipy",
    "events": "tensorboard",
    "files": "numpy",
    "foreign": "numpy safetensors",
    "held_out": "numpy",
    "lab_faults": "numpy",
    "made_data": "numpy",
    "options": "yaml",
    "plots": "matplotlib",
    "pretraining": "numpy",
    "runs": "yaml",
    "shapes": "numpy",
    "storage": "safetensors",
    "tables": "numpy",
    "training": "tqdm",
    "vision": "numpy torchvision",
    "workers": "tqdm",
}
"""What a room may import from elsewhere, torch aside."""

WITHOUT_TORCH = {
    "__init__",
    "checks",
    "command_line",
    "config",
    "errors",
    "hyperparameters",
    "options",
    "plain_yaml",
    "schedules",
    "stopping",
    "study_config",
}
"""What `--help` waits for."""

each_module = pytest.mark.parametrize("name", MODULES)


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that the source names in an import, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.split(".")[0] == "dbn"}


def libraries(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"dbn", *sys.stdlib_module_names}


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    assert set(MODULES) == set(ROOMS)
    assert set(LIBRARIES) <= set(ROOMS)


def test_no_two_rooms_may_import_each_other() -> None:
    order = tuple(TopologicalSorter({name: row.split() for name, row in ROOMS.items()}).static_order())
    assert set(order) == set(ROOMS)
    assert "finetuning" not in ROOMS["pretraining"].split()
    assert "pretraining" not in ROOMS["finetuning"].split()


@each_module
def test_a_room_imports_only_what_its_row_names(name: str) -> None:
    names = set(imported(ast.parse(MODULES[name].read_text(encoding="utf-8"))))
    assert rooms(names) <= {*ROOMS[name].split(), *ANY_ROOM_MAY}
    torch = set() if name in WITHOUT_TORCH else {"torch"}
    assert libraries(names) <= {*LIBRARIES.get(name, "").split(), *torch}


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
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}
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
    script = path == MODULES["command_line"] or path.parent.name == "scripts"
    assert offences(ast.parse(path.read_text(encoding="utf-8"))) <= (EXITS if script else set())


def test_what_help_waits_for_does_not_import_torch() -> None:
    names = ["dbn", *(f"dbn.{name}" for name in sorted(WITHOUT_TORCH - {"__init__"}))]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_what_takes_long_is_imported_where_ctrl_c_ends_in_one_line() -> None:
    code = (
        "import sys, dbn.command_line, dbn.study_config; sys.exit(bool({'tyro', 'tqdm', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_every_public_name_is_there_when_it_is_asked_for() -> None:
    code = "import dbn; print(*(getattr(dbn, name).__name__ for name in dbn.__all__))"
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, timeout=120)
    assert {"DBN", "RBM", "InputError", "load", "pretrain"} <= set(result.stdout.decode().split())
