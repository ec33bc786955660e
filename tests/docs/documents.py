"""The documents, their blocks of code, and the commands that they name."""

import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES]
GUIDES = [path for path in PAGES if path.parent.name == "how-to" or path.stem == "tutorial"]
"""Pages that are followed from top to bottom, commands and Python together."""
RECIPES = {path.stem: path for path in sorted((ROOT / "dbn" / "recipes").glob("*.yaml"))}
CONFIGS = {
    "pretrain": "PretrainConfig",
    "label-model": "LabelModelConfig",
    "finetune": "FinetuneConfig",
    "evaluate": "EvaluateConfig",
    "sample": "SampleConfig",
    "predict": "PredictConfig",
    "features": "FeaturesConfig",
    "impute": "ImputeConfig",
    "study": "StudyConfig",
    "report": "ReportConfig",
    "dream": "DreamConfig",
    "benchmark": "BenchmarkConfig",
    "benchmark_ranks": "RanksConfig",
    "estimators": "EstimatorsConfig",
    "results": "ResultsConfig",
    "svm": "SvmConfig",
    "label_spreading": "SpreadingConfig",
    "regression": "RegressionConfig",
    "bernoulli_rbm": "BernoulliRbmConfig",
    "defaults": "DefaultsConfig",
}
"""The options of each command and script."""
COMMAND = re.compile(
    r"(?:torch-dbn|python -m dbn|torchrun .* -m -- dbn) ([\w-]+)|(?:torchrun .* )?(?:python\S* )?scripts/(\w+)\.py"
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def steps(path: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks of a guide, in order."""
    found = re.findall(r"^```(python|sh|bash)\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
    return [(language, block.replace("\\\n", " ")) for language, block in found]


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Verb and options of each command: in shell blocks, between backticks, and in the comments of a recipe."""
    if path.suffix == ".yaml":
        lines = re.findall(r"^# (.*)", text_of(path), re.MULTILINE)
    else:
        lines = [
            *"\n".join(blocks(path, "sh")).replace("\\\n", " ").splitlines(),
            *re.findall("`([^`]+)`", prose(path)),
        ]
    for line in lines:
        if match := COMMAND.match(line):
            verb = next(filter(None, match.groups()))
            words = shlex.split(line[match.end() :].replace("\n", " "), comments=True)
            if words or path.suffix == ".yaml":  # `torch-dbn recipes` is a name
                yield verb, words


@cache
def config_class(verb: str) -> Any:
    """The class of a command's options, wherever it is defined."""
    name = CONFIGS[verb]
    files = [*(ROOT / "dbn").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    (file,) = (file for file in files if re.search(rf"^class {name}\b", text_of(file), re.MULTILINE))
    if file.is_relative_to(ROOT / "dbn"):
        return getattr(import_module(".".join(file.relative_to(ROOT).with_suffix("").parts)), name)
    spec = spec_from_file_location(f"documented_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # as for a script, which may import another
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return getattr(module, name)


def with_files(words: list[str]) -> list[str]:
    """Recipes that are named, as their files."""
    recipes = {place + 1 for place, word in enumerate(words) if word in ("--config", "--recipe")}
    return [str(RECIPES.get(word, word)) if place in recipes else word for place, word in enumerate(words)]
