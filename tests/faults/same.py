"""Tiny runs to be interrupted, and whether two runs hold the same, the clock's numbers aside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from launcher import Ended, Launcher
from tiny import TIMES, curves, events, metrics, pictures, save_pictures

BASE = "--dataset tiny.npz --hidden 9 6 --batch-size 30 --learning-rate 0.03 --picture-every 3 --run run"
PERSISTENT = "--centered --average 0.9 --binarize sample --features sample"
KINDS = {
    "cd": ("pretrain", f"{BASE} --epochs 4"),
    "pcd": ("pretrain", f"{BASE} --epochs 3 --estimator pcd --chains 20 {PERSISTENT} --momentum 0.0:0.5"),
    "pt": (
        "pretrain",
        f"{BASE} --epochs 3 --estimator pt --chains 5 --temperatures 4 --sparsity-target 0.2 --l1 0.001",
    ),
    "finetune": (
        "finetune",
        "--pretrained before --init dbn he_normal --labels 24 --seeds 1 --epochs 3 --batch-size 10 --average 0.5 "
        "--learning-rate 0.1 0.2 --refit --pseudo-labels 0,20@2 --hidden-dropout 0.2 --run run",
    ),
    "together": (
        "finetune",
        "--pretrained before --init dbn xavier_uniform:sigmoid --labels 24 --seeds 2 --epochs 4 --batch-size 10 "
        "--patience 1 --average 0.5 --learning-rate 0.1 0.2 --refit --hidden-dropout 0.2 --together auto --run run",
    ),
    "adam": (
        "finetune",
        "--dataset tiny.npz --hidden 6 --init batch_norm --labels 24 --seeds 1 --epochs 3 --optimizer adam "
        "--batch-size 10 --run run",
    ),
    "autoencode": (
        "finetune",
        "--pretrained before --init dbn he_normal --task autoencode --seeds 1 --epochs 2 --batch-size 30 "
        "--learning-rate 0.1 --run run",
    ),
    "labels": (
        "label_model",
        "--pretrained before --hidden 7 --epochs 2 --batch-size 30 --up-down 2 --run run",
    ),
    "holes": (
        "pretrain",
        "--dataset holes.npz --hidden 5 --missing gibbs --visible gaussian --batch-size 30 --epochs 3 "
        "--picture-every 3 --run run",
    ),
    "study": (
        "study",
        "--dataset tiny.npz --hidden 5 --init he_normal xavier_uniform --labels 12 24 --seeds 1 --epochs 2 "
        "--batch-size 12 --learning-rate 0.1 0.2 --run run",
    ),
    "evaluate": (
        "evaluate",
        "--run before --binarize threshold --ais 30 --chains 4 --output run/result.json --resume",
    ),
    "short": (
        "pretrain",
        "--dataset tiny.npz --hidden 6 --epochs 2 --batch-size 60 --picture-every 2 --learning-rate 0.03 --run run",
    ),
    "short finetune": (
        "finetune",
        "--dataset tiny.npz --hidden 4 --init he_normal --labels 12 --seeds 1 --epochs 2 --batch-size 12 "
        "--learning-rate 0.1 --run run",
    ),
}
"""Script and options of what is interrupted."""


def prepare(folder: Path, launcher: Launcher) -> Path:
    """A folder with data and, in `before`, a stack."""
    folder.mkdir()
    save_pictures(folder / "tiny.npz")
    x, y = pictures(side=3)
    x = np.where(np.random.default_rng(0).random(x.shape) < 0.2, np.nan, x)
    np.savez(folder / "holes.npz", x=x.reshape(len(x), -1), y=y)
    ended = launcher.run("pretrain", f"{BASE.replace('--run run', '--run before')} --epochs 1", folder)
    assert ended.status == 0, ended
    return folder


def go_on(launcher: Launcher, kind: str, folder: Path, **options: Any) -> Ended:
    """Begin the run, or go on with it where it was begun."""
    script, words = KINDS[kind]
    begun = (folder / "run" / "config.yaml").exists()
    return launcher.run(script, "--resume --run run" if begun else words, folder, **options)


def check_same(run: Path, whole: Path) -> None:
    """Weights, metrics, results, curves, pictures and histograms are those of the uninterrupted run."""
    for name in ("dbn.safetensors", "encoder.safetensors", "config.yaml"):
        if (whole / name).exists():
            assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    for file in found(run, whole, "metrics.jsonl"):
        assert metrics(run / file.parent) == metrics(whole / file.parent)
    for name in ("result.json", "signals.json", "results.jsonl"):
        for file in found(run, whole, name):
            assert timeless(run / file) == timeless(whole / file), file
    for name in ("classifier.safetensors", "label_model.safetensors", "study.md", "tensors.tsv", "sprite.png"):
        for file in found(run, whole, name):
            assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    folders = sorted({file.parent.relative_to(whole) for file in whole.rglob("events.out.tfevents.*")})
    assert sorted({file.parent.relative_to(run) for file in run.rglob("events.out.tfevents.*")}) == folders
    for folder in folders:
        assert repr(sorted(curves(run / folder).items())) == repr(sorted(curves(whole / folder).items()))
        assert drawn(run / folder) == drawn(whole / folder)
    assert not list(run.rglob(".writing-*"))


def found(run: Path, whole: Path, name: str) -> list[Path]:
    """The files of that name, which both have."""
    files = sorted(file.relative_to(whole) for file in whole.rglob(name))
    assert sorted(file.relative_to(run) for file in run.rglob(name)) == files
    return files


def timeless(file: Path) -> Any:
    """JSON, of a line or of several, without what depends on the clock."""

    def without(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: without(value) for key, value in data.items() if key not in TIMES}
        return [without(each) for each in data] if isinstance(data, list) else data

    text = file.read_text()
    return without([json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text))


def drawn(folder: Path) -> dict[str, Sequence[tuple[int, Any]]]:
    """(step, content) of every picture and histogram."""
    log = events(folder)
    return {
        **{tag: [(each.step, each.encoded_image_string) for each in log.Images(tag)] for tag in log.Tags()["images"]},
        **{
            tag: [(each.step, each.histogram_value) for each in log.Histograms(tag)] for tag in log.Tags()["histograms"]
        },
    }
