"""The batch script of docs/how-to/cluster.md, with stand-ins for the programs of SLURM."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import ROOT, blocks, config_class, text_of

from dbn.cli.command_line import parse

SCRIPT = blocks(ROOT / "docs" / "how-to" / "cluster.md", "bash")[0]
STAND_INS = {
    "srun": 'echo $BASHPID > step; exec "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo host0; echo host1; else echo "$@" >> queue; fi',
    "scancel": 'echo "$@" >> signals; kill -TERM "$(cat step)"',
}
WAITING = """echo "$@" >> ranks
if [[ "$*" == *--resume* ]]; then exit 0; fi
sleep 60 & trap "kill $!; exit 1" TERM
mkdir -p runs/wide; touch runs/wide/config.yaml
wait"""
"""A torchrun that begins a run and trains until it is told to end; resumed, it is done."""


def start(folder: Path, script: str, **programs: str) -> "subprocess.Popen[str]":
    (folder / "bin").mkdir(exist_ok=True)
    for name, body in (STAND_INS | programs).items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "script").write_text(script)
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    set_by_slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_NODELIST": "host[0-1]",
    }
    return subprocess.Popen(
        ["bash", "script"], cwd=folder, env={**os.environ, **set_by_slurm, "PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(file: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} does not come"
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_a_job_whose_time_is_up_is_queued_again_and_resumes(tmp_path: Path) -> None:
    first = start(tmp_path, SCRIPT, torchrun=WAITING)
    wait_for(tmp_path / "runs" / "wide" / "config.yaml")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert (tmp_path / "signals").read_text() == "--signal=TERM 7\n"
    assert (tmp_path / "queue").read_text() == "requeue 7\n"
    second = start(tmp_path, SCRIPT, torchrun=WAITING)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert (tmp_path / "queue").read_text() == "requeue 7\n"
    before, after = (tmp_path / "ranks").read_text().splitlines()
    assert "--rdzv-endpoint host0:29500" in before
    for line, resumed in ((before, False), (after, True)):
        _, _, words = line.partition("-m -- dbn pretrain ")
        config = parse(config_class("pretrain"), shlex.split(words), description="")
        assert (config.resume, str(config.run)) == (resumed, "runs/wide")


@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_an_error_ends_the_job_for_good(tmp_path: Path) -> None:
    job = start(tmp_path, SCRIPT, torchrun="exit 2")
    job.communicate(timeout=60)
    assert job.returncode == 2
    assert not (tmp_path / "queue").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_the_job_with_torchrun_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One process on a CPU, ended in its first epochs; the weights are those of a run that was never ended."""
    options = "--dataset mnist-10k --hidden 20 --epochs 60 --batch-size 100 --device cpu"
    script = re.sub('^options=".*"', f'options="{options}"', SCRIPT, flags=re.MULTILINE)
    script = script.replace("$host:29500", "localhost:0")
    torchrun = f'exec {sys.executable} -m torch.distributed.run "$@"'
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first = start(tmp_path, script, torchrun=torchrun)
    wait_for(tmp_path / "runs" / "wide" / "checkpoint", 300)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=300)
    assert (tmp_path / "queue").exists()
    assert not (tmp_path / "runs" / "wide" / "dbn.safetensors").exists()
    second = start(tmp_path, script, torchrun=torchrun)
    _, said = second.communicate(timeout=600)
    assert second.returncode == 0, said
    assert len(text_of(tmp_path / "runs" / "wide" / "metrics.jsonl").splitlines()) == 60
