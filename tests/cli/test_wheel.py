"""The wheel holds all that the program needs, and works away from the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    ended = subprocess.run([sys.executable, *build], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    (wheel,) = folder.glob("torch_dbn-*.whl")
    return wheel


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
        metadata = archive.read(next(name for name in names if name.endswith("dist-info/METADATA"))).decode()
    package = {path for path in (ROOT / "dbn").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {name for name in names if name.startswith("dbn/")} == {
        path.relative_to(ROOT).as_posix() for path in package
    }
    assert {"dbn/recipes/rbm-500.yaml", "dbn/data/mnist-10k.npz", "dbn/benchmarks/cases.py", "dbn/__main__.py"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dbn", "torch_dbn"}
    assert "torch-dbn = dbn.cli:main" in scripts
    assert metadata.count("\nProject-URL: ") == 4


def test_it_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """Dependencies come from the environment of the tests, the package from the wheel alone."""
    place, folder = tmp_path / "environment", tmp_path / "elsewhere"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=120)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, timeout=120)
    (site,) = [path.parents[1] for path in place.rglob("dbn/__init__.py")]
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        command = [str(each) for each in (python.parent / "torch-dbn", *words)]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    where = subprocess.run(
        [python, "-c", "import dbn; print(dbn.__file__)"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    assert "\nrbm-500 " in run("recipes")
    run("pretrain", "--config", "demo-pretrain", "--hidden", "20", "15", "10", "--epochs", "1", "--gibbs-steps", "1")
    words = ["--labels", "50", "--seeds", "2", "--epochs", "1", "--init", "dbn", "he_normal"]
    assert "he_normal" in run("finetune", "--config", "demo-finetune", *words)
    found = json.loads((folder / "runs" / "finetune" / "result.json").read_text())
    assert {len(arm["test_error"]) for arm in found["arms"].values()} == {2}
