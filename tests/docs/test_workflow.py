"""What other machines run is the Makefile's, for the systems and versions that the package names."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WRITTEN = [*FORMS, WORKFLOW, ROOT / ".github" / "pull_request_template.md", ROOT / ".pre-commit-config.yaml"]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if step.get("run", "").startswith("make")]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_system_and_python_runs_the_command_that_guards_main() -> None:
    matrix = JOBS["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    least = PROJECT["requires-python"].removeprefix(">=")
    assert matrix["python"][0] == least
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in matrix["python"]
    assert commands(JOBS["test"]) == [f"{(ROOT / '.ci' / 'run').read_text().split()[-2]} test PYTHON=python"]


def test_the_oldest_torch_is_the_one_that_is_allowed() -> None:
    (command,) = commands(JOBS["oldest"])
    file = re.search(r"CONSTRAINTS=(\S+)", command)
    assert file is not None
    pins = [line for line in (ROOT / file[1]).read_text().splitlines() if not line.startswith("#")]
    bounds = {re.split(r">=", line)[0]: line.split(">=")[1] for line in PROJECT["dependencies"]}
    assert pins == [f"{name}=={bounds[name]}.0" for name in ("torch", "torchvision")]
    assert commands(JOBS["newest"]) == ["make unit PYTHON=python CONSTRAINTS=/dev/null"]  # nothing is held back


def test_commands_of_the_workflow_and_of_the_hooks_are_in_the_makefile() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    called = [each for job in JOBS.values() for each in commands(job)] + [hook["entry"] for hook in hooks]
    assert {command.split()[1] for command in called} <= targets()
    assert len(called) == len(JOBS) + len(hooks)


@pytest.mark.parametrize("file", WRITTEN, ids=lambda path: path.name)
def test_they_name_nothing_of_one_machine(file: Path) -> None:
    assert not re.search(r"shared|DBN_DATA|/work|/tmp|/root|self-hosted", file.read_text())


@pytest.mark.parametrize("file", [file for file in FORMS if file.name != "config.yml"], ids=lambda path: path.name)
def test_forms_ask_for_something(file: Path) -> None:
    form = yaml.safe_load(file.read_text())
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])
