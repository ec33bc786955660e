"""Tables of a study: means ± 95 % intervals, and tests of each arm against the reference."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dbn.finetuning.signal_propagation import LayerSignal
from dbn.finetuning.signal_tables import comparison_table
from dbn.runs.folder import RESULT, SIGNALS_FILE, RunFolder
from dbn.statistics import holm, mean_interval, paired_t_test
from dbn.study.grid import CellArm
from dbn.study.study import STACKS, Study
from dbn.tasks import TASKS, Task
from dbn.text_tables import markdown_table

Results = Mapping[CellArm, Sequence[Mapping[str, Any]]]
"""By cell and arm, where finished: one record per seed."""


def results(study: Study) -> dict[CellArm, list[dict[str, Any]]]:
    """The finished arms of the cells, one record per seed, as the lines of results.jsonl."""
    found = {}
    for cell_arm in filter(study.is_done, study.cell_arms):
        result = RunFolder(study.folder(cell_arm)).read_json(RESULT)
        (arm,) = result["arms"].values()
        about = {
            "arm": cell_arm.arm,
            "activation": arm["activation"],
            "hidden": list(cell_arm.hidden),
            "depth": len(cell_arm.hidden),
            **{name: result[name] for name in ("labels", "valid_labels")},
        }
        found[cell_arm] = [{**about, **record} for record in result["records"]]
    return found


class Table(NamedTuple):
    """One row per arm, one column per number of labels, or per network."""

    title: str
    headings: list[str]
    rows: dict[str, list[CellArm]]


def tables(study: Study) -> list[Table]:
    """One table per network and activation; one per activation where all cells have one number of labels."""
    by_labels = len(study.config.training.amounts) > 1 or len(study.shapes) == 1
    found: dict[str, Table] = {}
    for cell_arm in study.cell_arms:
        labels, seeds = labels_title(study, cell_arm), study.config.training.at(cell_arm.labels).seeds
        title, column = (f"{cell_arm.shape} hidden units", labels) if by_labels else (labels, cell_arm.shape)
        title = joined(title, cell_arm.activation)
        _, headings, rows = found.setdefault(title, Table(title, [], {}))
        rows.setdefault(cell_arm.arm, []).append(cell_arm)
        if cell_arm.arm == next(iter(rows)):
            headings.append(f"{column}, {seeds} seed{'s' * (seeds > 1)}")
    return list(found.values())


def joined(*parts: str) -> str:
    """The parts that are not empty, with commas."""
    return ", ".join(filter(None, parts))


def labels_title(study: Study, cell_arm: CellArm) -> str:
    """1,000 labels, all 55,000 labels, or 10 labels per class."""
    if isinstance(cell_arm.labels, int):
        return f"{cell_arm.labels:,} labels"
    per_class = cell_arm.labels.removesuffix("-per-class")
    return f"all {study.splits.train.n_labeled:,} labels" if per_class == "all" else f"{per_class} labels per class"


def corrected_p(table: Table, reference: str, found: Results) -> dict[CellArm, float | None]:
    """p of the paired t-test against the reference arm in the same cell, Holm-corrected over the table's tests.

    Pending tests count as p = 1, so that no p of a table grows as it fills. None where the differences do not vary.
    """
    tests, pending = {}, 0
    for arm, cell_arms in table.rows.items():
        for cell_arm, against in zip(cell_arms, table.rows[reference], strict=True):
            pair = [[record["test_error"] for record in found.get(each, ())] for each in (cell_arm, against)]
            if arm != reference and min(map(len, pair)) > 1:
                tests[cell_arm] = paired_t_test(*pair)
            elif arm != reference and not all(pair):
                pending += 1
    known = {cell_arm: p for cell_arm, p in tests.items() if p is not None}
    return tests | dict(zip(known, holm([*known.values(), *[1.0] * pending]), strict=False))


def shown_p(p: float | None) -> str:
    """As tables have it."""
    if p is None:
        return "same difference under every seed"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def error_table(table: Table, reference: str, found: Results, task: type[Task]) -> str:
    """Test errors, the least of a column in bold, as a table of Markdown."""
    p = corrected_p(table, reference, found)
    means = {
        cell_arm: mean_interval([record["test_error"] for record in found[cell_arm]])
        for cell_arms in table.rows.values()
        for cell_arm in cell_arms
        if found.get(cell_arm)
    }
    columns = zip(*table.rows.values(), strict=True)
    least = [min((means[each].mean for each in column if each in means), default=0.0) for column in columns]

    def cell(cell_arm: CellArm, least: float) -> str:
        if cell_arm not in means:
            return "pending"
        mean, half = means[cell_arm]
        text = task.shown(mean) if half is None else f"{task.shown(mean)} ± {task.shown(half)}"
        diverged = sum(record["diverged"] for record in found[cell_arm])
        stuck = sum(record.get("one_class", False) for record in found[cell_arm])
        return joined(
            f"**{text}**" if mean == least else text,
            shown_p(p[cell_arm]) if cell_arm in p else "",
            f"{diverged} diverged" if diverged else "",
            f"{stuck} gave one class" if stuck else "",
        )

    rows = [
        [f"{arm} (reference)" if arm == reference and len(table.rows) > 1 else arm, *map(cell, cell_arms, least)]
        for arm, cell_arms in table.rows.items()
    ]
    return markdown_table(["arm", *table.headings], rows)


def rate_table(table: Table, found: Results) -> str:
    """The selected learning rates, as a table of Markdown."""
    rows = [
        [arm, *(f"{found[each][0]['learning_rate']:g}" if each in found else "pending" for each in cell_arms)]
        for arm, cell_arms in table.rows.items()
    ]
    return markdown_table(["arm", *(heading.rpartition(",")[0] for heading in table.headings)], rows)


def reference_arm(study: Study) -> str:
    """The arm that the others are tested against."""
    arms = study.config.training.init
    dbn = [arm for arm in arms if arm.partition(":")[0] == "dbn"]
    return study.config.reference or (dbn or list(arms))[0]


def error_label(study: Study) -> str:
    """What the test error is called, with its unit: "test error (%)"."""
    return TASKS[study.config.training.task].heading({"targets": study.splits.targets}).replace(" %", " (%)")


def study_markdown(study: Study, found: Results, figures: Sequence[str] = ()) -> str:
    """study.md; `figures` are its last paragraphs."""
    reference, made, task = reference_arm(study), tables(study), TASKS[study.config.training.task]
    title = error_label(study)
    parts = [
        f"# Study of initializations on {study.splits.name}",
        _heading(study, found),
        f"## {title[0].upper()}{title[1:]}",
    ]
    for table in made:
        parts += [f"### {table.title}", error_table(table, reference, found, task)]
    if len(study.config.training.learning_rates) > 1:
        parts.append("## Selected learning rates")
        for table in made:
            parts += [f"### {table.title}", rate_table(table, found)]
    parts += [*_signals(study, found), *(["## Figures", *figures] if figures else [])]
    return "\n\n".join(parts) + "\n"


def _heading(study: Study, found: Results) -> str:
    training = study.config.training
    rates = ", ".join(f"{rate:g}" for rate in sorted(training.learning_rates))
    said = [
        study.splits.describe(),
        "Mean over seeds ± 95 % interval (Student's t); a seed draws labels, order and output layer, the same for "
        "all arms.",
    ]
    if len(training.init) > 1:
        said.append(
            f"p: paired t-test over seeds against {reference_arm(study)}, Holm-corrected over the tests of a table."
        )
    if len(training.learning_rates) > 1:
        few = training.tuning_seeds
        over = "all seeds" if few is None or few >= max(training.seeds) else f"the first {few} seed{'s' * (few > 1)}"
        said.append(
            f"Learning rates tried: {rates}; each arm selects the one with the lowest validation error over {over}."
        )
    else:
        said.append(f"Learning rate: {rates}.")
    if counts := sorted({records[0]["valid_labels"] for records in found.values()}):
        said.append(f"Validation labels, for tuning and early stopping: {', '.join(f'{n:,}' for n in counts)}.")
    if training.pseudo_labels is not None:
        said.append(f"Rows an epoch that each network labels itself: {'; '.join(map(str, training.pseudo_labels))}.")
    said.append(_stacks_sentence(study))
    if len(found) < len(study.cell_arms):
        said.append(f"In progress: {len(found)} of {len(study.cell_arms)} arms in cells are finished.")
    return " ".join(filter(None, said))


def _stacks_sentence(study: Study) -> str:
    stacks = len(study.given) or ((study.config.stacks or STACKS) if study.config.recipe else 0)
    seeds = max(study.config.training.seeds)
    if not stacks:
        return ""
    said = f"Pre-trained stacks: {stacks}" + (", under different seeds" if stacks > 1 else "")
    if stacks < seeds:
        said += f", used in turn by up to {seeds} seeds, so that the intervals of dbn leave out some of their variance"
    return said + "."


def _signals(study: Study, found: Results) -> list[str]:
    """How signals pass through the networks during training, one table per network and activation."""
    groups: dict[str, dict[str, dict[str, list[LayerSignal]]]] = {}
    for cell_arm in of_last_labels(study, found):
        moments = {moment: _mean(seeds) for moment, seeds in read_signals(study, cell_arm).items()}
        groups.setdefault(network_title(study, cell_arm), {})[cell_arm.arm] = moments
    if not groups:
        return []
    parts = ["## Signals, mean over seeds"]
    for title, arms in groups.items():
        parts += [f"### {title}", f"```\n{comparison_table(arms)}\n```"]
    several = any(len(cell_arm.hidden) > 1 for cell_arm in found)
    factor = (
        "×: the factor a hidden layer has on the spread of pre-activations (over all, and about each unit's mean), and "
        "backwards on that of gradients; 1 preserves a signal. "
    )
    return [*parts, (factor if several else "") + "Half of all ReLU units are off at initialization."]


def of_last_labels(study: Study, cell_arms: Iterable[CellArm]) -> list[CellArm]:
    """Those with the last number of labels, whose signals are reported."""
    return [cell_arm for cell_arm in cell_arms if cell_arm.labels == study.config.training.amounts[-1]]


def network_title(study: Study, cell_arm: CellArm) -> str:
    """500x3 hidden units, tanh, 1,000 labels: the shape, and of the others what varies."""
    labels = labels_title(study, cell_arm) if len(study.config.training.amounts) > 1 else ""
    return joined(f"{cell_arm.shape} hidden units", cell_arm.activation, labels)


def read_signals(study: Study, cell_arm: CellArm) -> dict[str, list[list[dict[str, float]]]]:
    """By moment, seed and layer: fields of `LayerSignal`, NaN for what is not finite.

    Moments are "at the start", "after epoch 10" and so on, and "selected epoch"; only those that every seed reached.
    """
    moments = RunFolder(study.folder(cell_arm)).read_json(SIGNALS_FILE)
    names = {"start": "at the start", "end": "selected epoch"}
    return {
        names.get(moment, f"after epoch {moment}"): [
            [{name: math.nan if value is None else value for name, value in layer.items()} for layer in layers]
            for layers in seeds
        ]
        for moment, seeds in moments.items()
        if len(seeds) == len(moments["start"])
    }


def _mean(seeds: Sequence[Sequence[Mapping[str, float]]]) -> list[LayerSignal]:
    return [
        LayerSignal(**{name: math.fsum(each[name] for each in layer) / len(layer) for name in layer[0]})
        for layer in zip(*seeds, strict=True)
    ]
