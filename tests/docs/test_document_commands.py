"""The commands of the documents and recipes have options that exist, with values that they take."""

import re
from pathlib import Path
from typing import Any

import pytest
from documents import CONFIGS, DOCUMENTS, RECIPES, ROOT, commands, config_class, name_of, prose, with_files

from dbn.cli.command_line import parse
from dbn.cli.options import options_of

COMMANDS = {" ".join([verb, *words]): (verb, words) for path in DOCUMENTS for verb, words in commands(path)}
"""Each once."""
VERBS = {"recipes", "completion"}
"""Commands without options that a configuration holds."""


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) > 40
    assert {verb for verb, _ in COMMANDS.values()} >= set(CONFIGS) - {"sample"}
    assert len(RECIPES) >= 25


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    verb, words = COMMANDS[line]
    for place, word in enumerate(words):
        if word == "--config":
            assert words[place + 1] in RECIPES or Path(words[place + 1]).is_file()
    if verb not in VERBS:
        parse(config_class(verb), with_files(words), description="")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_understood_by_the_command_that_it_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    of_itself = [(verb, words) for verb, words in commands(RECIPES[name]) if {name, name_of(RECIPES[name])} & {*words}]
    assert of_itself, f"{name} does not say which command it is for"
    for verb, words in of_itself:
        config: Any = parse(config_class(verb), with_files(words), description="")
        assert config.run.parts[0] == "runs"


def test_the_recipes_of_the_demo_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    before, after = (
        parse(config_class(verb), ["--config", str(RECIPES[f"demo-{verb}"])], description="")
        for verb in ("pretrain", "finetune")
    )
    assert after.pretrained == (before.run,)
    assert set(after.training.init) >= {"dbn", "xavier_uniform", "he_normal"}
    assert after.training.seeds >= 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_option_that_a_document_names_exists(path: Path) -> None:
    known = {f"--{name}" for verb in CONFIGS for name in options_of(config_class(verb))}
    known |= {"--help", "--config", "--centred", "--max-restarts", "--check"}  # an alias, torchrun's, ruff's
    known |= {"--logdir", "--requeue", "--signal"}  # TensorBoard's and SLURM's
    named = {
        name
        for code in re.findall("`([^`]+)`", prose(path))
        for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code)
    }
    assert named <= known


def test_an_unknown_option_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Run `torch-dbn pretrain --hiden 5` or\n\n```sh\ntorch-dbn study \\\n    --no-such 3  # a comment\n```\n"
    )
    assert list(commands(page)) == [("study", ["--no-such", "3"]), ("pretrain", ["--hiden", "5"])]
    assert "hiden" not in options_of(config_class("pretrain"))
