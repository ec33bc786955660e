"""The README is right: its Python runs, its commands exist, and so do the recipes'."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from dbn.cli.command_line import parse
from dbn.cli.commands.benchmark import BenchmarkConfig
from dbn.cli.commands.benchmark_ranks import RanksConfig
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.pretraining import PretrainConfig
from dbn.config.study import StudyConfig

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "scripts")
    from svm import SvmConfig
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "sample": SampleConfig,
    "study": StudyConfig,
    "svm": SvmConfig,
    "benchmark": BenchmarkConfig,
    "predict": PredictConfig,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def torchrun_lines() -> list[str]:
    """What torchrun is told to start in the README and in the notes on scaling."""
    notes = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    return re.findall(r"^torchrun .* -- (scripts/\w+\.py .*)", (README + notes).replace("\\\n", ""), re.MULTILINE)


def script_lines() -> list[str]:
    """Every call of a script in the README's shell blocks and on the other pages."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join([*blocks("sh"), *pages]).replace("\\\n", " ")
    return [line.lstrip("# ") for line in text.splitlines() if re.search(r"python\S* scripts/\w+\.py", line)]


def test_there_is_something_to_test() -> None:
    assert len(blocks("python")) >= 2
    assert len(script_lines()) >= 6
    assert {"pretrain", "finetune", "predict"} <= {re.findall(r"scripts/(\w+)\.py", line)[0] for line in script_lines()}


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    promised = 0
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
        # A comment with a shape behind an assignment is a promise.
        for name, shape in re.findall(r"^(\w+) = .*#.*?(\(\d[\d, ]*\))", block, re.MULTILINE):
            assert tuple(names[name].shape) == ast.literal_eval(shape)
            promised += 1
    assert promised >= 2
    assert (tmp_path / "runs" / "mine" / "dbn.safetensors").is_file()
    x = torch.rand(9, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(names["encoder"](x), names["stack"].up(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("line", script_lines())
def test_the_commands_of_the_readme_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, script, *words = shlex.split(line)
    assert (ROOT / script).is_file()
    parse(CONFIGS[Path(script).stem], words, description="")


def test_what_torchrun_is_to_start_is_understood() -> None:
    lines = [shlex.split(line) for line in torchrun_lines()]
    assert {Path(script).stem for script, *_ in lines} == {"pretrain", "finetune", "benchmark_ranks"}
    for script, *words in lines:
        config = CONFIGS.get(Path(script).stem) or RanksConfig
        parse(config, words, description="")


def test_every_option_that_the_readme_names_exists() -> None:
    from dbn.cli.options import options_of

    known = {f"--{name.replace('_', '-')}" for kind in CONFIGS.values() for name in options_of(kind)} | {
        "--help",
        "--config",
    }
    prose = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", prose))
    assert named
    assert named <= known
