"""Command lines and configurations that cannot work: status 2, one sentence that names the option, no traceback."""

import random
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from dbn.cli.command_line import parse
from dbn.cli.options import Option, options_of
from dbn.config.evaluation import EvaluateConfig
from dbn.config.finetuning import FinetuneConfig
from dbn.config.inference import PredictConfig, SampleConfig
from dbn.config.pretraining import PretrainConfig
from dbn.config.study import StudyConfig

CONFIGS: dict[str, tuple[type, dict[str, str]]] = {
    "pretrain": (PretrainConfig, {}),
    "finetune": (FinetuneConfig, {"pretrained": "runs/a"}),
    "evaluate": (EvaluateConfig, {"run": "runs/a"}),
    "sample": (SampleConfig, {"run": "runs/a", "output": "a.png"}),
    "predict": (PredictConfig, {"run": "runs/a", "data": "a.npz", "output": "a.csv"}),
    "study": (StudyConfig, {"pretrained": "runs/a"}),
}
"""Each with options that it can do with."""
NO_NUMBERS = ("five", "1_0_", "0x1g", "½", "1,5", "nan?", "2e", "1 0", "[1]", "{}", "null ", "\t")


def kinds(option: Option) -> set[Any]:
    found, left = set(), [option.kind]
    while left:
        kind = left.pop()
        found.add(kind if get_origin(kind) is not Literal else Literal)
        left += [] if get_origin(kind) is Literal else get_args(kind)
    return found - {NoneType, Ellipsis}


def impossible(name: str, option: Option) -> Iterator[list[str]]:
    """Values that no option of its kind takes."""
    kind = kinds(option)
    if bool in kind:
        yield ["maybe"]
        return
    yield [""]
    if str in kind or Path in kind:
        if option.most == 1:
            yield ["a", "b"]
        if Path in kind or name == "dataset":
            yield ["p" * 5000]
            yield ["p" * 300]
        return
    if kind & {int, float}:
        yield from ([word] for word in NO_NUMBERS)
        yield ["nan"]
        yield ["1" + "0" * 40]
        if name not in ("ais", "freeze-epochs", "labels"):
            yield ["-1"]
    if Literal in kind and not kind & {int, float}:
        yield from ([word] for word in ("another", "CD", "1", "none,none"))
    if kind & {int, float} and option.most == 1:
        yield ["1", "2"]


def generated() -> list[tuple[str, str, list[str]]]:
    made = [
        (script, name, values)
        for script, (config, _) in CONFIGS.items()
        for name, option in options_of(config).items()
        for values in impossible(name, option)
    ]
    chance = random.Random(0)
    for script, (config, _) in CONFIGS.items():
        for name in options_of(config):
            place = chance.randrange(len(name) + 1)
            made.append((script, name[:place] + chance.choice("xqzj") + name[place:], ["1"]))
    return made


GENERATED = generated()


def refusal(script: str, tokens: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(CONFIGS[script][0], tokens, description="")
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, ""), (tokens, out, err)
    assert err.count("\n") == 1, (tokens, err)
    assert "Traceback" not in err
    return err


def some(script: str, share: int) -> list[tuple[str, list[str]]]:
    """One in `share` of what was generated, at random, always the same."""
    mine = [(name, values) for of, name, values in GENERATED if of == script]
    return random.Random(script).sample(mine, -(-len(mine) // share))


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("script", CONFIGS)
def test_bad_command_lines(script: str, share: int, capsys: pytest.CaptureFixture[str]) -> None:
    for name, values in some(script, share):
        others = [f"--{other}={value}" for other, value in CONFIGS[script][1].items() if other != name]
        err = refusal(script, [*others, f"--{name}", *values], capsys)
        assert f"--{name}" in err, (name, values, err)


@pytest.mark.parametrize("share", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("script", CONFIGS)
def test_bad_files(script: str, share: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same values in YAML."""
    file = tmp_path / "options.yaml"
    for name, values in some(script, share):
        options = {key: value for key, value in CONFIGS[script][1].items() if key != name}
        file.write_text(yaml.safe_dump(options | {name: values if len(values) > 1 else values[0]}))
        err = refusal(script, ["--config", str(file)], capsys)
        assert name in err, (name, values, err)


def test_there_are_hundreds() -> None:
    assert sum(len(some(script, 4)) for script in CONFIGS) >= 300
