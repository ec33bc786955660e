"""torch-dbn as a program: its commands, recipes by name, shell completion, and the end of several processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbn.cli.command_line import parse
from dbn.cli.commands import COMMANDS
from dbn.cli.config_files import RECIPES, recipe_names
from dbn.cli.program import main
from dbn.config import CONFIGS, FinetuneConfig, PretrainConfig, StudyConfig, to_dict

ROOT = Path(__file__).parents[2]
RESUMED = {"pretrain": "", "finetune": "--pretrained runs/a", "study": "--pretrained runs/a"}
"""Commands with runs of their own, and the fewest options that each takes."""
RUNS = [verb for verb in COMMANDS if verb not in ("recipes", "completion")]


def python(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=env)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/anywhere/torch-dbn", *words])
    main()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_commands_are_listed_with_a_sentence_each(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, *words)
    out = capsys.readouterr().out
    listed = re.findall(r"^  ([\w-]+)  +([A-Z].*\.)$", out, re.MULTILINE)
    assert [verb for verb, _ in listed] == list(COMMANDS)


def test_help_names_what_an_option_takes() -> None:
    said = python("-m", "dbn", "finetune", "--help").stdout
    assert "--label-column [NAME ...]" in said
    assert "--schedule constant,cosine|SCHEDULE" in said
    assert "--learning-rate [FLOAT|SCHEDULE ...]" in python("-m", "dbn", "pretrain", "--help").stdout


def test_python_dash_m_is_the_same_program_and_help_does_not_import_torch() -> None:
    code = (
        "import runpy, sys; sys.argv = ['dbn', '--help']; runpy.run_module('dbn', run_name='__main__'); "
        "print('torch' in sys.modules)"
    )
    ended = python("-c", code)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: torch-dbn COMMAND [OPTIONS]\n")
    assert ended.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretran", "torch-dbn: error: there is no command 'pretran', did you mean 'pretrain'?"),
        ("--hidden 3", "torch-dbn: error: there is no command '--hidden'"),
        ("pretrain --hiden 3", "torch-dbn pretrain: error: unknown option --hiden, did you mean --hidden?"),
        ("recipes rbm-1", "torch-dbn recipes: error: there is no recipe 'rbm-1', did you mean 'rbm-16'?"),
        ("recipes a b", "torch-dbn recipes: error: unexpected argument 'b'"),
        ("completion fish", "torch-dbn completion: error: SHELL must be one of bash, zsh, not 'fish'\n"),
        ("pretrain --config rbm-50", "error: --config rbm-50 is neither a file nor a recipe, did you mean 'rbm-500'?"),
        ("pretrain --config away/rbm-500", "error: --config away/rbm-500 cannot be read: No such file or directory\n"),
        (
            "pretrain --config study-labels",
            "study-labels.yaml holds options of torch-dbn study, not of pretrain: name another file",
        ),
    ],
)
def test_mistakes_end_in_one_sentence(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *words.split())
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(("verb", "other"), [(a, b) for a in RESUMED for b in RESUMED if a != b])
def test_a_run_of_another_command_is_said(
    verb: str, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = to_dict(read(CONFIGS[other], *RESUMED[other].split()))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
    with pytest.raises(SystemExit):
        call(monkeypatch, verb, "--resume", "--run", str(tmp_path))
    said = f"torch-dbn {verb}: error: {tmp_path} is a run of torch-dbn {other}: resume it with that command\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("verb", "place"), [("completion", "[SHELL]"), ("recipes", "[NAME]"), ("pretrain", "")])
def test_the_usage_has_what_comes_without_dashes(
    verb: str, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(monkeypatch, verb, "--help")
    usage = capsys.readouterr().out.partition("\n")[0]
    assert usage.split() == f"usage: torch-dbn {verb} {place} [OPTIONS]".split()


@pytest.mark.parametrize("verb", RUNS)
def test_the_scripts_are_the_commands(verb: str) -> None:
    name = verb.replace("-", "_") + ".py"
    script, command = python(f"scripts/{name}", "--help"), python("-m", "dbn", verb, "--help")
    assert (script.returncode, script.stderr) == (0, "")
    assert re.match(rf"usage: {name} (\[RUN\] )?\[OPTIONS\]\n", script.stdout)
    assert script.stdout.removeprefix(f"usage: {name}") == command.stdout.removeprefix(f"usage: torch-dbn {verb}")
    wrong = python(f"scripts/{name}", "--nothing", "3")
    assert wrong.stderr.startswith(f"{name}: error: unknown option --nothing")


# Recipes


def read(kind: Any, *words: str) -> Any:
    return parse(kind, words, description="")


def test_the_recipes_are_listed_and_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "recipes")
    out = capsys.readouterr().out
    assert "rbm-500                   pretrain     An RBM of 500 units on samples of MNIST's gray levels" in out
    assert [line.split()[0] for line in out.splitlines()[:-2]] == recipe_names()
    call(monkeypatch, "recipes", "rbm-500")
    assert capsys.readouterr().out == (RECIPES / "rbm-500.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_understood_by_the_command_it_names(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, *_ = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# [A-Za-z0-9].*[.]", first)
    match = re.fullmatch(rf"# torch-dbn ([\w-]+) --config {name}", second)
    assert match
    config = read(COMMANDS[match[1]].config, "--config", name)
    assert config.run.parts[0] == "runs"
    if isinstance(config, StudyConfig) and config.recipe:
        assert isinstance(read(PretrainConfig, "--config", str(config.recipe)), PretrainConfig)


def test_a_recipe_is_found_by_name_by_path_and_where_it_once_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = read(PretrainConfig, "--config", "rbm-16")
    assert wanted.training.hidden == (16,)
    for name in ("rbm-16.yaml", str(RECIPES / "rbm-16.yaml"), "scripts/recipes/rbm-16.yaml"):
        assert read(PretrainConfig, "--config", name) == wanted
    Path("rbm-16").write_text("hidden: 3")  # a file of one's own wins
    assert read(PretrainConfig, "--config", "rbm-16").training.hidden == (3,)
    Path("rbm-500").mkdir()
    assert read(PretrainConfig, "--config", "rbm-500").training.hidden == (500,)


def test_the_recipes_of_the_demo_fit_together() -> None:
    before, after = read(PretrainConfig, "--config", "demo-pretrain"), read(FinetuneConfig, "--config", "demo-finetune")
    assert after.pretrained == (before.run,)
    assert set(after.training.init) >= {"dbn", "xavier_uniform", "he_normal"}
    assert after.training.seeds >= 3


# Completion


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pre", "pretrain predict"),
        ("pretrain --sparsity-", "--sparsity-target --sparsity-cost"),
        ("pretrain --estimator p", "pcd pt"),
        ("finetune --no-ref", "--no-refit"),
        ("completion z", "zsh"),
    ],
)
def test_bash_completes(typed: str, offered: str, tmp_path: Path) -> None:
    made = python("-m", "dbn", "completion", "bash")
    assert (made.returncode, made.stderr) == (0, "")
    words = ["torch-dbn", *typed.split()]
    call = f"COMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\n_shtab_torch_dbn\necho ${{COMPREPLY[@]}}"
    (tmp_path / "complete.sh").write_text(f"{made.stdout}\n{call}")
    ended = subprocess.run(["bash", str(tmp_path / "complete.sh")], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == offered.split(), ended.stderr


def test_zsh_gets_every_command() -> None:
    out = python("-m", "dbn", "completion", "zsh").stdout
    assert out.startswith("#compdef torch-dbn")
    assert all(f"{verb})" in out for verb in COMMANDS)


# The end of several processes

ABORTS_AT_EXIT = """
import atexit, os
from dbn.cli import run_script
from dbn.config import EvaluateConfig

atexit.register(os.abort)  # as torch's threads do now and then while Python ends
run_script(lambda config: print("done"), EvaluateConfig, "", several=True)
"""


@pytest.mark.parametrize(("size", "status"), [("2", 0), ("1", -6)])
def test_one_of_several_processes_ends_at_once_after_success(size: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").write_text(ABORTS_AT_EXIT)
    ended = python(str(tmp_path / "evaluate.py"), "--run", "r", RANK="1", WORLD_SIZE=size)
    assert (ended.returncode, ended.stdout) == (status, "done\n"), ended.stderr
