"""TensorBoard records of a fit: curves and signals during training, and its row of the HPARAMS tab."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dbn.finetuning.problem import Problem
from dbn.finetuning.results import FitResult, TunedArm
from dbn.finetuning.signal_propagation import LayerSignal, record, trace
from dbn.finetuning.trainer import Trainer
from dbn.initializers.arms import Arm
from dbn.models.autoencoder import code_place
from dbn.plotting.images import as_images
from dbn.rng import fixed_subset
from dbn.runs.curves import FINETUNING, TIMING, card
from dbn.runs.folder import RunFolder
from dbn.runs.projector import points_of, write_projector
from dbn.runs.tensorboard import EventLog

NOT_OF_A_FIT = ("init", "seeds", "signals", "together")
"""Options that do not describe a single fit."""

CHARTS = {"valid_error": "validation error", "train_loss": "training loss", "valid_loss": "validation loss"}
"""Custom charts of fine-tuning: the curve, and the title. Each arm and seed has a color."""

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
        events.figures(tested, prefix="finetune", step=tuned.best_epoch)
        picture = problem.task.drawn({chosen.arm.name: [scores]})
        if picture is not None:
            events.images(problem.task.picture.split(".")[0], picture, tuned.best_epoch)
        _show_hparams(events, problem, chosen, seed, tested)
    return signals


def write_codes(folder: Path, problem: Problem, network: nn.Sequential) -> None:
    """Codes of test examples for TensorBoard's projector, with their labels, and thumbnails where they are images.

    The code of a network that leads back to its input is its narrowest layer, of others the last hidden one.
    """
    splits = problem.given or problem.splits
    if splits.test is None:
        return
    linear = [number for number, module in enumerate(network) if isinstance(module, nn.Linear)]
    place = code_place(network) if problem.task.mirrored else linear[-1]
    part = splits.test[fixed_subset(len(splits.test), points_of(problem.hidden[-1]))]
    x, shape = problem.scaling(part.x.to(problem.device)), problem.splits.image_shape
    with torch.no_grad():
        codes = network[:place](x)
    if codes.isfinite().all():
        images = None if shape is None else as_images(x, shape, problem.scaling)
        write_projector(folder, codes, splits.class_names(part), images)


def begin_logs(run: RunFolder, problem: Problem) -> None:
    """Say in the run's own folder what the curves of all arms mean, and which charts show them; in place of others."""
    config, several = problem.config, len(problem.config.learning_rates) > 1
    EventLog.keep(run.path, lambda tag, step: False)
    # Under each learning rate while they are compared, and of the one that is selected.
    prefixes = ["finetune", *(tag_prefix(rate, "tune", several=True) for rate in config.learning_rates if several)]
    with EventLog(run.path) as events:
        events.chart(
            {
                prefix: {title: ["Multiline", [f"{prefix}/{name}$"]] for name, title in CHARTS.items()}
                for prefix in prefixes
            }
        )
        events.text("about", about(problem), 0)


def end_logs(run: RunFolder, problem: Problem, tested: Mapping[str, Any], table: str) -> None:
    """The table of the comparison, and the picture of its test, of all arms."""
    with EventLog(run.path) as events:
        events.text("result", "".join(f"    {line}\n" for line in table.splitlines()), 0)
        picture = problem.task.drawn(tested)
        if picture is not None:
            events.images(problem.task.picture.split(".")[0], picture, 0)


def about(problem: Problem) -> str:
    """The card of a comparison: what was trained, and what its curves mean."""
    config = problem.config
    names = [name for name in FINETUNING if config.signals is not None or name in CHARTS]
    hidden = " – ".join(map(str, problem.hidden))
    return "\n\n".join(
        [
            f"{len(config.init)} initializations of a network with {hidden} hidden units, trained alike on "
            f"{problem.labels} labels: {', '.join(config.init)}.",
            "Each arm and seed is a run, `ARM/seed-N`. *Custom Scalars* has the curves to look at first: those under "
            "`finetune/` are of the learning rate that validation selected, `learning-rate-…/` of each that was tried, "
            "`refit/` of training again with the validation examples. The step is the epoch.",
            card(FINETUNING, names),
            "Test scores are measured once, at the end: they are in the result below, and columns of *HParams*. The "
            "*Projector* has the codes of test examples in the best network of each arm.",
            card(TIMING, ["seconds", "measuring_seconds"]),
        ]
    )


def _at_ends(folder: Path, problem: Problem, arm: Arm, seed: int, final: FitResult) -> SignalsByTime:
    (x, y), loss = problem.probe(seed), problem.task.loss
    with EventLog(folder) as events:
        start = record(events, trace(problem.network(arm, seed), x, y, loss=loss), 0)
        end = record(events, trace(problem.network_with(arm, final.weights), x, y, loss=loss), final.best_epoch)
    between = {str(epoch): [LayerSignal(*each) for each in layers] for epoch, layers in sorted(final.signals.items())}
    moments = {"start": start, **between, "end": end}
    return {moment: [each._asdict() for each in layers] for moment, layers in moments.items()}


def _show_hparams(events: EventLog, problem: Problem, chosen: TunedArm, seed: int, tested: Mapping[str, float]) -> None:
    config, tuned = problem.config, chosen.tuned[problem.seeds.index(seed)]
    options = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in NOT_OF_A_FIT}
    events.hparams(
        {
            "command": "finetune",
            "arm": chosen.arm.name,
            "activation": chosen.arm.activation,
            "hidden": list(problem.hidden),
            **options,
            "freeze_epochs": str(config.freeze_epochs),  # a number or "all", and TensorBoard wants one type
            "labels": problem.labels,
            "valid_labels": problem.valid_labels,
            "learning_rate": chosen.learning_rate,
            "seed": seed,
            "best_epoch": tuned.best_epoch,
            "valid_error": tuned.valid_error,
            **tested,
        }
    )


def _shown(record: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "epoch"}
