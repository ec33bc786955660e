"""Run folders: made, opened, replaced; configuration, metrics, checkpoints."""

import json
import math
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from dbn.errors import InputError
from dbn.runs import versions
from dbn.runs.folder import RunFolder


def begun(path: Path) -> RunFolder:
    run = RunFolder.create(path, overwrite=False)
    run.write_config({"seed": 1, "hidden": [5, 4], "data_dir": None})
    return run


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs" / "a", overwrite=False)
    assert [each.name for each in run.path.iterdir()] == [".lock"]
    assert RunFolder.create(run.path, overwrite=True) == run  # empty: nothing to lose


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    run = begun(tmp_path / "a")
    run.log({"epoch": 1})
    (run.subfolder("dbn/seed-0") / "weights").write_bytes(b"1")
    with pytest.raises(InputError, match=r"exists already: .*--resume.*--overwrite.*another --run"):
        RunFolder.create(run.path, overwrite=False)
    assert run.metrics() == [{"epoch": 1}]
    RunFolder.create(run.path, overwrite=True)
    assert [each.name for each in run.path.iterdir()] == [".lock"]


@pytest.mark.parametrize("names", [["thesis.tex"], ["config.yaml", "thesis.tex"], ["versions.json"]])
def test_what_is_no_run_is_never_deleted(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="does not look like a run of dbn and is not overwritten"):
        RunFolder.create(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_link_to_a_run_is_not_followed_for_deleting(tmp_path: Path) -> None:
    run = begun(tmp_path / "a")
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(InputError, match="link cannot be made a run folder"):
        RunFolder.create(tmp_path / "link", overwrite=True)
    assert run.read_config()["seed"] == 1


def test_a_file_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="cannot be made a run folder"):
            RunFolder.create(path, overwrite=True)


def test_only_runs_are_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run folder"):
        RunFolder.open(tmp_path / "a")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    run = begun(tmp_path / "a")
    assert RunFolder.open(run.path) == run


def test_the_configuration_and_the_versions_are_kept(tmp_path: Path) -> None:
    run = begun(tmp_path / "a")
    assert run.read_config() == {"seed": 1, "hidden": [5, 4], "data_dir": None}
    assert list(yaml.safe_load((run.path / "config.yaml").read_text())) == ["seed", "hidden", "data_dir"]
    made_with = json.loads((run.path / "versions.json").read_text())
    assert list(made_with) == ["format", "data", "dbn", "torch", "torchvision", "python", "platform", "git_commit"]
    assert made_with["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert made_with["python"] == platform.python_version()
    for text in ("a: [", "- 1", "", "a: !!python/object:os.system {}", "\0"):
        (run.path / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=r"config\.yaml is damaged"):
            run.read_config()


def test_the_commit_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert versions._git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    git("tag", "-m", "1", "v1")
    commit = git("rev-parse", "HEAD")
    assert versions._git_commit(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert versions._git_commit(tmp_path) == commit + "-dirty"
    (tmp_path / "site-packages").mkdir()
    assert versions._git_commit(tmp_path / "site-packages") is None


def test_metrics_grow_by_lines_of_json(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.metrics() == []
    run.log({"layer": 1, "kl": 0.1, "gap": math.nan, "seconds": math.inf})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"layer": 1, "kl": 0.1, "gap": null, "seconds": null}\n'
    run.log({"layer": 2})
    assert run.metrics() == [{"layer": 1, "kl": 0.1, "gap": None, "seconds": None}, {"layer": 2}]


@pytest.mark.parametrize("torn", [b"", b'{"epoch": ', b'{"epoch": 4}', b'"epo"', b"\0\0\0", b"\xff\n"])
def test_metrics_of_a_resumed_run_join_without_a_seam(torn: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    assert [record["epoch"] for record in run.metrics()][:3] == [1, 2, 3]
    run.keep_metrics(lambda record: record["epoch"] <= 2)
    run.log({"epoch": 3})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'


def test_damage_in_the_middle_of_the_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged .* line 2 is no record"):
        RunFolder(tmp_path).metrics()


def test_a_result_keeps_its_order_and_is_strict_json(tmp_path: Path) -> None:
    data = {"b": {"ci95": None, "low": -math.inf}, "a": (1.5, math.nan), "name": "ü"}
    RunFolder(tmp_path).write_json("result.json", data)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "b": {"ci95": None, "low": None},
        "a": [1.5, None],
        "name": "ü",
    }
    assert text.index('"b"') < text.index('"a"')


def test_checkpoints_replace_each_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.load_checkpoint() is None
    for epoch in (1, 2):
        run.save_checkpoint({"epoch": epoch, "weight": torch.full((2,), float(epoch)), "betas": (0.9, 0.999)})
    state = run.load_checkpoint()
    assert state is not None
    assert (state["epoch"], state["weight"].tolist(), state["betas"]) == (2, [2.0, 2.0], (0.9, 0.999))
    assert os.listdir(tmp_path / "checkpoint") == ["state.safetensors"]
