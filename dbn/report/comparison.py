"""The report of a comparison of initializations."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dbn.errors import InputError
from dbn.finetuning.report import cells, heading, notes, sentence, stuck_sentence
from dbn.plotting.figures import Signals, signal_by_layer
from dbn.report.drawings import curves, png_file, svg
from dbn.report.page import Block, Gallery, Page, Picture, Section, Table, Text, Warned
from dbn.report.source import Source, events_in
from dbn.runs.classifier import folder_name
from dbn.tasks import TASKS, Task

MOST_CLASSES = 20
"""Of confusion matrices and figures by class that are tables."""
CURVES = {"valid_loss": "validation loss", "train_loss": "training loss"}
SIGNALS = "z_std", "example_std", "gradient_std", "singular_mean"


def comparison_page(source: Source) -> Page:
    """InputError where the comparison has not ended."""
    found = source.result
    if found is None:
        raise InputError(
            f"{source.run.path} is no finished run of finetune: end it with finetune --resume --run {source.run.path}"
        )
    task = TASKS[found.get("task", "classify")]
    headers, rows = cells(found)
    warnings = [*notes(found), *filter(None, [stuck_sentence(found)]), *_diverged(found)]
    sections = [
        Section("Errors by arm", [Text(heading(found)), Table(headers, rows), *map(Warned, warnings)]),
        Section(
            "Learning curves", [Gallery(list(_curves(source, found, task.heading(found)))), *_by_rate(source, task)]
        ),
        Section("The test set", [*_by_class(found), *_pictures(source, task.picture)]),
        Section("Signal propagation", _signals(source, found)),
    ]
    return Page(f"Comparison of initializations: {found['dataset']}", [sentence(found)], sections)


def _diverged(found: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} diverged under {arm['diverged']} of {len(arm['valid_error'])} seeds: give a lower --learning-rate."
        for name, arm in found["arms"].items()
        if arm["diverged"]
    ]


def _curves(source: Source, found: Mapping[str, Any], error: str) -> Iterator[Picture]:
    """By epoch, at the selected learning rates, mean over seeds; then the errors by learning rate."""
    selected = [
        record
        for record in source.metrics
        if record["stage"] == "tune"
        and record["arm"] in found["arms"]
        and record["learning_rate"] == found["arms"][record["arm"]]["learning_rate"]
    ]
    named = {"valid_error": error.replace("test", "validation").replace(" %", " (%)"), **CURVES}
    for name, label in named.items():
        arms: dict[str, dict[float, list[Any]]] = {}
        for record in selected:
            arms.setdefault(record["arm"], {}).setdefault(record["epoch"], []).append(record.get(name))
        if drawn := curves(
            arms, f"{label[0].upper()}{label[1:]} after each epoch, at the selected rates.", ylabel=label
        ):
            yield drawn


def _by_rate(source: Source, task: type[Task]) -> list[Block]:
    """Least validation errors, mean over seeds, by arm and learning rate where several were tried."""
    least: dict[tuple[str, float], dict[int, float]] = {}
    for record in source.metrics:
        if record["stage"] == "tune" and record.get("valid_error") is not None:
            seeds = least.setdefault((record["arm"], record["learning_rate"]), {})
            seeds[record["seed"]] = min(record["valid_error"], seeds.get(record["seed"], math.inf))
    arms, rates = dict.fromkeys(arm for arm, _ in least), sorted({rate for _, rate in least})
    if len(rates) < 2:
        return []

    def cell(arm: str, rate: float) -> str:
        errors = least.get((arm, rate), {}).values()
        return task.shown(math.fsum(errors) / len(errors)) if errors else "–"

    rows = [(arm, *(cell(arm, rate) for rate in rates)) for arm in arms]
    caption = "Least validation errors by learning rate, mean over seeds: each arm selects its own rate."
    return [Table(("arm", *(f"{rate:g}" for rate in rates)), rows, caption)]


def _by_class(found: Mapping[str, Any]) -> list[Block]:
    """Confusion matrices, recall and precision, where they can be read."""
    names = found.get("classes", [])
    if not 0 < len(names) <= MOST_CLASSES:
        return []
    blocks: list[Block] = []
    for arm, figures in found["arms"].items():
        if "confusion" not in figures:
            continue
        by_class = [figures[which] for which in ("recall", "precision")]
        rows = [
            (name, *map(str, counts), *("–" if each[place] is None else f"{each[place]:.1f}" for each in by_class))
            for place, (name, counts) in enumerate(zip(names, figures["confusion"], strict=True))
        ]
        caption = f"{arm}: true class by row, predicted class by column, all seeds together."
        blocks.append(Table(("true class", *names, "recall %", "precision %"), rows, caption))
    return blocks


def _pictures(source: Source, picture: str) -> list[Block]:
    """The task's picture of the test, from the run folder."""
    name, _, shown = picture.partition(", ")
    file = source.run.path / name
    if not name or not file.is_file():
        return []
    return [png_file(file.read_bytes(), f"{shown[0].upper()}{shown[1:]} of all arms.", is_figure=True)]


def _signals(source: Source, found: Mapping[str, Any]) -> list[Block]:
    """How signals pass through the layers, of the runs that measured them."""
    moments: dict[str, dict[str, list[list[dict[str, float]]]]] = {}
    for arm in found["arms"]:
        for seed in found["seeds"]:
            folder = source.run.path / folder_name(arm) / f"seed-{seed}"
            for moment, layers in signals_of(events_in(folder).scalars).items():
                moments.setdefault(moment, {}).setdefault(arm, []).append(layers)
    if not moments:
        return []
    ends = list(dict.fromkeys([next(iter(moments)), list(moments)[-1]]))
    return [signals_figure({moment: moments[moment] for moment in ends}, list(found["arms"]))]


def signals_of(scalars: Mapping[str, Mapping[int, float]]) -> dict[str, list[dict[str, float]]]:
    """By moment and layer, from tags such as signals/layer2/z_std."""
    layers: dict[int, dict[int, dict[str, float]]] = {}
    for tag, curve in scalars.items():
        first, _, rest = tag.partition("/layer")
        number, _, name = rest.partition("/")
        if first == "signals" and number.isdecimal():
            for step, value in curve.items():
                layers.setdefault(step, {}).setdefault(int(number), {})[name] = value
    steps = sorted(layers)
    titles = {step: "at the start" if step == 0 else "at the end" for step in (steps[:1] + steps[-1:])}
    return {titles[step]: [layers[step][number] for number in sorted(layers[step])] for step in titles}


def signals_figure(moments: Mapping[str, Signals], order: Sequence[str], title: str = "") -> Picture:
    """Spreads and singular values by hidden layer."""
    figure = signal_by_layer(moments, order=order, quantities=SIGNALS, title=title)
    return svg(figure, f"{title or 'Signals'} by hidden layer, mean over seeds: a level line keeps them.")
