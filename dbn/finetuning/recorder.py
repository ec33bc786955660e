"""TensorBoard records of a fit: curves and signals during training, and its row of the HPARAMS tab."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dbn.data.splits import labels_of
from dbn.finetuning.problem import Problem
from dbn.finetuning.results import FitResult, TunedArm
from dbn.finetuning.signal_propagation import LayerSignal, record, trace
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import Arm
from dbn.models.autoencoder import code_place
from dbn.plotting.images import as_images
from dbn.rng import fixed_subset
from dbn.runs.tensorboard import EventLog, write_projector

NOT_OF_A_FIT = ("init", "seeds", "signals")
"""Options that do not describe a single fit."""

PROJECTED = 2000
"""Test examples of which the projector shows the codes; thumbnails make one picture, of 45 × 45 of them."""

SignalsByTime = dict[str, list[dict[str, float]]]
"""Signals of a fit by moment ("start", the epochs that were asked for, "end") and layer: fields of `LayerSignal`."""


def tag_prefix(learning_rate: float, stage: str, *, several: bool) -> str:
    """The prefix of a fit's tags; with several learning rates it names the rate."""
    return "refit" if stage == "refit" else f"learning-rate-{learning_rate}" if several else "finetune"


def rewind_events(folder: Path, prefix: str, epoch: int) -> None:
    """Remove the events that a fit resumed from that epoch writes again."""
    EventLog.keep(folder, lambda tag, step: not tag.startswith(f"{prefix}/") or step <= epoch)


def log_epoch(events: EventLog, prefix: str, fit: Trainer) -> None:
    """Write the last epoch of a fit, and measure its signals if they are asked for."""
    events.scalars(_shown(fit.history[-1]), prefix=prefix, step=fit.epoch)
    if fit.epoch in (fit.problem.config.signals or ()):
        traced = trace(fit.kept, *fit.problem.probe(fit.seed), loss=fit.task.loss)
        fit.signals[fit.epoch] = [list(layer) for layer in record(events, traced, fit.epoch, f"{prefix}/signals")]
    events.flush()


def finalize_events(
    folder: Path, problem: Problem, chosen: TunedArm, seed: int, scores: Any, *, several: bool
) -> SignalsByTime:
    """Write the selected fit, with its test scores and the picture of them, under the tags that all arms share.

    Also its row of the HPARAMS tab. Returns its signals.

    Signals are empty unless they are asked for; those of other learning rates are removed.
    """
    place = problem.seeds.index(seed)
    tuned, final = chosen.tuned[place], chosen.final[place]
    # A seed that did not tune was trained at one learning rate, others at several.
    own = ["refit"] if problem.config.refit else ["finetune", tag_prefix(chosen.learning_rate, "tune", several=True)]
    written_here = (
        "finetune/" if several else "finetune/test_",
        "hparam/",
        problem.task.picture.split(".")[0] or "hparam/",
    )

    def rename(tag: str) -> str:
        prefix, found, name = tag.partition("/signals/")
        return f"signals/{name}" if found and prefix in own else tag

    def is_kept(tag: str, step: int) -> bool:
        return "/signals/" not in tag and not tag.startswith(written_here)

    # Before the events are put in order; after an interruption they are measured again, with the same values.
    signals = {} if problem.config.signals is None else _at_ends(folder, problem, chosen.arm, seed, final)
    EventLog.keep(folder, is_kept, rename)
    with EventLog(folder) as events:
        for epoch in tuned.history if several else ():
            events.scalars(_shown(epoch), prefix="finetune", step=int(epoch["epoch"]))
        tested = {f"test_{name}": value for name, value in scores.figures().items()}
        events.scalars(tested, prefix="finetune", step=tuned.best_epoch)
        picture = problem.task.drawn({chosen.arm.name: [scores]})
        if picture is not None:
            events.images(problem.task.picture.split(".")[0], picture, tuned.best_epoch)
        _show_hparams(events, problem, chosen, seed, scores.error)
    return signals


def write_codes(folder: Path, problem: Problem, network: nn.Sequential) -> None:
    """Codes of test examples for TensorBoard's projector, with their labels, and thumbnails where they are images."""
    test = (problem.given or problem.splits).test
    if test is None:
        return
    part = test[fixed_subset(len(test), PROJECTED)]
    x = problem.scaling(part.x.to(problem.device))
    with torch.no_grad():
        codes = network[: code_place(network)](x)
    classes, shape = (problem.given or problem.splits).classes, problem.splits.image_shape
    labels = [classes[place] if place >= 0 else "" for place in labels_of(part).tolist()] if classes else None
    write_projector(folder / "codes", codes, labels, None if shape is None else as_images(x, shape, problem.scaling))


def _at_ends(folder: Path, problem: Problem, arm: Arm, seed: int, final: FitResult) -> SignalsByTime:
    (x, y), loss = problem.probe(seed), problem.task.loss
    with EventLog(folder) as events:
        start = record(events, trace(problem.network(arm, seed), x, y, loss=loss), 0)
        end = record(events, trace(problem.network_with(arm, final.weights), x, y, loss=loss), final.best_epoch)
    between = {str(epoch): [LayerSignal(*each) for each in layers] for epoch, layers in sorted(final.signals.items())}
    moments = {"start": start, **between, "end": end}
    return {moment: [each._asdict() for each in layers] for moment, layers in moments.items()}


def _show_hparams(events: EventLog, problem: Problem, chosen: TunedArm, seed: int, test_error: float) -> None:
    config = problem.config
    options = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in NOT_OF_A_FIT}
    events.hparams(
        {
            "arm": chosen.arm.name,
            "activation": chosen.arm.activation,
            "hidden": list(problem.hidden),
            **options,
            "labels": problem.labels,
            "valid_labels": problem.valid_labels,
            "learning_rate": chosen.learning_rate,
            "seed": seed,
        },
        {"hparam/test_error": test_error, "hparam/valid_error": chosen.tuned[problem.seeds.index(seed)].valid_error},
    )


def _shown(record: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "epoch"}
