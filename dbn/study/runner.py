"""Run a study: stacks, then every arm in every cell, in several processes; results, tables and figures."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from dbn.config import PretrainConfig, StudyConfig
from dbn.errors import InputError
from dbn.plotting.figures import error_against_depth, error_against_labels, learning_curves, save, signal_by_layer
from dbn.runs.card import escaped, write_card
from dbn.runs.folder import RunFolder, json_line
from dbn.runs.formats import FIT_RECORD
from dbn.storage.files import atomic_write
from dbn.storage.owned import Owned, identity_of, own
from dbn.study.grid import CellArm, dashed
from dbn.study.process_pool import run_tasks
from dbn.study.report import (
    Results,
    error_label,
    joined,
    labels_title,
    network_title,
    of_last_labels,
    read_signals,
    results,
    study_markdown,
)
from dbn.study.study import Study
from dbn.training.distributed import threads_each
from dbn.training.loop import progress_bar

PLOTTED_SIGNALS = ("z_std", "example_std", "gradient_std", "saturated", "dead", "singular_mean")
"""The panels of the signals' figure."""


def run_study(study: Study, *, figures: bool = True, progress: bool | None = False) -> str:
    """Do all pending work; return the text of study.md, which is in the run folder with results.jsonl and figures.

    results.jsonl and study.md are updated whenever an arm in a cell is finished. InputError as for `run_tasks`.
    """
    stacks = [number for number in study.stack_tasks if not study.has_stack(number)]
    cell_arms = [cell_arm for cell_arm in study.cell_arms if not study.is_done(cell_arm)]
    _each(study, stacks, Study.pretrain, "stacks", lambda: None, progress=progress)
    _each(study, cell_arms, Study.train, "cells × arms", lambda: write(study), progress=progress)
    return write(study, figures=figures)


def write_study_card(study: Study, text: str) -> None:
    """README.md of the run: what study.md, the text, says first, and where the rest is."""
    hidden = ", ".join("–".join(map(str, shape)) for shape in study.shapes)
    lead = next((each for each in text.split("\n\n")[1:] if not each.startswith("#")), "")
    sections = {
        "Model": f"Networks with hidden layers of {hidden} units, one comparison of arms in each folder of cells/.",
        "Data": f"{escaped(study.splits.describe())} Fingerprint of values and splits: `{study.fingerprint}`.",
        "Errors": f"{escaped(lead)}\n\nAll tables and figures are in [study.md](study.md).",
    }
    write_card(RunFolder(study.config.run), f"Study of initializations on {study.splits.name}", sections)


def _each(
    study: Study,
    tasks: list[Any],
    method: Callable[[Study, Any], None],
    name: str,
    after: Callable[[], object],
    *,
    progress: bool | None,
) -> None:
    config = study.config
    prepare: Callable[[], Callable[[Any], None]] = partial(
        _worker, config, study.recipe, study.fingerprint, identity_of(config.run), method
    )
    if config.workers == 1:
        prepare = partial(partial, method, study)  # this process has loaded the data already
    threads = config.threads or threads_each(config.workers)
    with progress_bar(len(tasks), name, shown=progress) as bar:
        for _ in run_tasks(prepare, tasks, workers=config.workers, threads=threads):
            after()
            bar.update()


def _worker(
    config: StudyConfig,
    recipe: PretrainConfig | None,
    fingerprint: str,
    owned: Owned | None,
    method: Callable[[Study, Any], None],
) -> Callable[[Any], None]:
    if owned is not None:  # by the process that started this one
        own(config.run, *owned)
    study = Study(config, recipe)
    if study.fingerprint != fingerprint:
        raise InputError(
            f"{study.splits.name} or a stack has changed since the study started: restore it, and resume with --resume"
        )
    return partial(method, study)


def write(study: Study, *, figures: bool = False) -> str:
    """Write results.jsonl, study.md and, if asked for, figures of what is finished; return the text of study.md."""
    found = results(study)
    lines = [json_line(record) for records in found.values() for record in records]
    atomic_write(study.config.run / "results.jsonl", "".join(lines).encode())
    text = study_markdown(study, found, list(_drawn(study, found)) if figures else ())
    atomic_write(study.config.run / "study.md", text.encode())
    return text


def _drawn(study: Study, found: Results) -> Iterator[str]:
    """Save the figures; paragraphs that show them, and a sentence for those that cannot be drawn."""
    refusals = []
    for name, draw in _figures(study, found):
        path = Path("figures") / f"{name}.png"
        try:
            save(draw(), study.config.run / path)
            yield f"![{name}]({path.as_posix()})"
        except InputError as error:
            refusals.append(f"{error}.")
    yield from dict.fromkeys(refusals)


def _figures(study: Study, found: Results) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names, and functions that draw."""
    order, ylabel = study.config.training.init, error_label(study)
    networks = sorted(found, key=lambda cell_arm: (study.shapes.index(cell_arm.hidden), cell_arm.activation))
    if len(study.config.training.amounts) > 1:
        for (shape, activation), cell_arms in groupby(networks, lambda cell_arm: (cell_arm.shape, cell_arm.activation)):
            errors = _errors(list(cell_arms), found, "labels")
            title = joined(f"{shape} hidden units", activation)
            yield (
                dashed("labels", shape, activation),
                partial(error_against_labels, errors, title=title, order=order, ylabel=ylabel),
            )
    if len(study.shapes) > 1:
        by_labels = sorted(found, key=lambda cell_arm: study.config.training.amounts.index(cell_arm.labels))
        for labels, cell_arms in groupby(by_labels, lambda cell_arm: cell_arm.labels):
            by_activation: dict[str, list[CellArm]] = {}
            for cell_arm in cell_arms:
                by_activation.setdefault(cell_arm.activation, []).append(cell_arm)
            panels = {activation: _errors(each, found, "depth") for activation, each in by_activation.items()}
            some = next(iter(by_activation.values()))[0]
            title = joined(labels_title(study, some), *(panels if len(panels) == 1 else ()))
            yield (
                f"depth-{labels}-labels",
                partial(error_against_depth, panels, title=title, order=order, ylabel=ylabel),
            )
    measured = of_last_labels(study, networks)
    for (shape, activation), cell_arms in groupby(measured, lambda cell_arm: (cell_arm.shape, cell_arm.activation)):
        group = list(cell_arms)
        arms = {cell_arm.arm: read_signals(study, cell_arm) for cell_arm in group}
        # Arms that stopped early have fewer moments; the longest list has them all.
        most = max(arms.values(), key=len)
        moments = {moment: {arm: each[moment] for arm, each in arms.items() if moment in each} for moment in most}
        title = network_title(study, group[0])
        draw = partial(signal_by_layer, moments, title=title, order=order, quantities=PLOTTED_SIGNALS)
        yield dashed("signals", shape, activation), draw
    for cell, cell_arms in groupby(found, lambda cell_arm: cell_arm.cell):
        group = list(cell_arms)
        curves = {cell_arm.arm: _curve(study, cell_arm, found[cell_arm][0]["learning_rate"]) for cell_arm in group}
        title = joined(labels_title(study, group[0]), f"{group[0].shape} hidden units", group[0].activation)
        yield (
            f"curves-{cell}",
            partial(learning_curves, curves, title=title, order=order, ylabel=ylabel.replace("test", "validation")),
        )


def _errors(cell_arms: list[CellArm], found: Results, axis: str) -> dict[str, dict[float, list[float]]]:
    errors: dict[str, dict[float, list[float]]] = {}
    for cell_arm in cell_arms:
        records = found[cell_arm]
        errors.setdefault(cell_arm.arm, {})[records[0][axis]] = [record["test_error"] for record in records]
    return errors


def _curve(study: Study, cell_arm: CellArm, rate: float) -> dict[float, list[float]]:
    """Validation error (%) of every seed at the selected rate, by epoch."""
    curve: dict[float, list[float]] = {}
    for record in RunFolder(study.folder(cell_arm)).metrics(FIT_RECORD):
        if record["learning_rate"] == rate and record["stage"] == "tune":
            curve.setdefault(record["epoch"], []).append(record["valid_error"])
    return curve
