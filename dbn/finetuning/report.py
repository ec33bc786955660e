"""Report of a comparison: a table, and sentences on what differs and what is doubtful."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dbn.errors import listed
from dbn.finetuning.summary import is_stuck
from dbn.models.idle import idle_sentence
from dbn.runs.classifier import has_classifier
from dbn.runs.folder import RESULT, RunFolder
from dbn.storage.files import corrupt_file
from dbn.tasks import TASKS, Task
from dbn.text_tables import Row, plain_table

SIGNIFICANT = 0.05
FEW_TESTED, FEW_VALIDATED = 100, 30
"""Below these numbers of examples the head of the table says what one of them counts."""


def finished(run: RunFolder) -> str | None:
    """The report of a complete comparison, from its result.json; None while it is incomplete or lacks a classifier.

    InputError when result.json is damaged.
    """
    if not (run.path / RESULT).is_file():
        return None
    found = run.read_json(RESULT)
    if "arms" not in found:
        raise corrupt_file(run.path / RESULT, "arms is missing")
    return comparison_text(found) if all(has_classifier(run, arm) for arm in found["arms"]) else None


def comparison_text(found: Mapping[str, Any]) -> str:
    """Heading, table and sentences."""
    head = "\n".join([heading(found), *notes(found)])
    return "\n".join([f"{head}\n\n{table(found)}\n", *filter(None, [stuck_sentence(found), sentence(found)])])


def table(found: Mapping[str, Any]) -> str:
    """One line per arm, best first."""
    headers, rows = cells(found)
    return plain_table(headers, rows, align="l" * len(headers))


def cells(found: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Headers and rows of the table. Runs of earlier versions have no balanced error and no log-loss."""
    task = TASKS[found.get("task", "classify")]
    columns = [each for each in task.columns if all(f"test_{each[0]}" in arm for arm in found["arms"].values())]
    heading = task.heading(found)
    rows: list[Row] = []
    for name, arm in sorted(found["arms"].items(), key=lambda item: item[1]["mean"]):
        n = len(arm["valid_error"])
        interval = "" if arm["ci95"] is None else f" ± {task.shown(arm['ci95'])}"
        diverged = f"  (diverged under {arm['diverged']} of {n} seeds)" if arm["diverged"] else ""
        rows.append(
            (
                name,
                arm["activation"] + ", normalized" * arm["normalise"],
                f"{arm['learning_rate']:g}",
                f"{task.shown(arm['mean'])}{interval}",
                *(_mean(arm[f"test_{key}"], digits) for key, _, digits in columns),
                task.shown(math.fsum(arm["valid_error"]) / n),
                f"{math.fsum(arm['seconds']) / n:.1f}{diverged}",
            )
        )
    validated = "validation %" if heading.endswith("%") else "validation"
    return ("arm", "activation", "rate", heading, *(each for _, each, _ in columns), validated, "seconds"), rows


def _mean(values: Sequence[float | None], digits: int) -> str:
    """– where one is not finite."""
    finite = [value for value in values if value is not None]
    return f"{math.fsum(finite) / len(finite):.{digits}f}" if len(finite) == len(values) else "–"


def heading(found: Mapping[str, Any]) -> str:
    """What the table is about."""
    n = len(found["seeds"])
    interval = "mean ± 95 % interval (Student's t)" if n > 1 else "one seed, no interval"
    one = "one pre-trained stack" + (", whose own variance the interval leaves out" if n > 1 else "")
    stacks = {0: "no pre-trained stack", 1: one}
    refit = ", refitted on both" if found["refit"] else ""
    own = f", pseudo-labels ({found['pseudo_labels']})" if "pseudo_labels" in found else ""
    tested = f", {found['test_examples']:,} for testing" if "test_examples" in found else ""
    return (
        f"{found['dataset']}: {found['labels']:,} training labels, {found['valid_labels']:,} for validation{refit}"
        f"{own}{tested}; {n} seed{'s' if n > 1 else ''}, {interval}; "
        f"{stacks.get(found['stacks'], 'one pre-trained stack a seed')}"
    )


def notes(found: Mapping[str, Any]) -> list[str]:
    """What makes the table doubtful, a sentence each: few examples, a stack that has hardly learned."""
    said, tested, validated = [], found.get("test_examples", FEW_TESTED), found["valid_labels"]
    if "task" in found:  # one example has no share of another task's error
        few = [f"{tested} test examples"] * (tested < FEW_TESTED)
        few += [f"{validated} validation labels, which select learning rate and epoch"] * (validated < FEW_VALIDATED)
        said += [f"There are only {each}." for each in few]
        return [*said, *filter(None, [idle_sentence(found.get("idle_layers", ()))])]
    if tested < FEW_TESTED:
        said.append(
            f"The test set is too small to show small differences: one of its {tested} examples is "
            f"{100 / tested:.1f} %, and errors on {tested} others would differ by up to about "
            f"{_margin(found):.0f} points."
        )
    support = found.get("support", [])
    if (
        untested := [name for name, count in zip(found["classes"], support, strict=True) if not count]
        if support
        else ()
    ):
        said.append(f"No test example is of the class {listed(untested)}: the errors leave it out.")
    if validated < FEW_VALIDATED and "test_examples" in found:
        said.append(
            f"Only {validated} validation labels select learning rate and epoch: one is {100 / validated:.1f} %."
        )
    return [*said, *filter(None, [idle_sentence(found.get("idle_layers", ()))])]


def _margin(found: Mapping[str, Any]) -> float:
    """Points by which errors on as many other test examples would differ: 1.96 standard errors at the best arm's."""
    tested = found["test_examples"]
    share = min(max(min(arm["mean"] for arm in found["arms"].values()) / 100, 1 / tested), 0.5)
    return 196 * math.sqrt(share * (1 - share) / tested)


def stuck_sentence(found: Mapping[str, Any]) -> str:
    """Names the arms that give nearly every test example the same class; empty where there are none."""
    n = len(found["seeds"])
    stuck = {name: arm["one_class"] for name, arm in found["arms"].items() if arm.get("one_class")}
    if not stuck:
        return ""
    names = [name if count == n else f"{name} (under {count} of {n} seeds)" for name, count in stuck.items()]
    one = len(names) == 1
    return (
        f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} give{'s' * one} nearly every test example "
        f"the same class: {'it has' if one else 'they have'} not learned to tell the classes apart. Try other learning "
        "rates, more epochs or another activation; with sigmoid units a gain of 4, as in xavier_uniform(gain=4)."
    )


def sentence(found: Mapping[str, Any]) -> str:
    """Whether the best arm is separated from the next; and `dbn` from the best other arm, and from Xavier and He."""
    comparison, n = found["comparison"], len(found["seeds"])
    if len(found["arms"]) == 1:
        return "One arm alone: nothing to compare it with."
    if comparison is None:
        learned = [name for name, arm in found["arms"].items() if not is_stuck(arm)]
        if not learned:
            return "No arm has learned: there is nothing to compare."
        return f"{learned[0]} alone has learned: nothing to compare it with."
    best, following = comparison["best"], comparison["next"]
    task = TASKS[found.get("task", "classify")]
    points = f"{task.shown(comparison['difference'])}{task.unit}"
    if comparison["p"] is None:
        where = "one seed, which says nothing about" if n == 1 else f"each of {n} seeds, which allows no test of"
        said = f"{best} is {points} ahead of {following} under {where} chance."
    else:
        separated, chance = _judged(found, comparison)
        test = f"paired t-test over {n} seeds: {chance}"
        said = f"{best} is {separated} from the next best, {following}: {points} ahead ({test})."
    pairs = {(best, following), (following, best)}
    for which, each in found.get("dbn_against", {}).items():
        pair = each["dbn"], each["other"]
        if pair not in pairs:
            pairs.add(pair)
            said += " " + _dbn_sentence(found, which, each, task)
    return said


def _dbn_sentence(found: Mapping[str, Any], which: str, each: Mapping[str, Any], task: type[Task]) -> str:
    points = each["difference"]
    side = f"{task.shown(abs(points))}{task.unit} {'ahead' if points >= 0 else 'behind'}"
    if each["p"] is None:
        same = " under every seed" * (len(found["seeds"]) > 1)
        return f"{each['dbn']} is {side}{' of' * (points >= 0)} the {which}, {each['other']}{same}."
    separated, chance = _judged(found, each)
    return f"{each['dbn']} is {separated} from the {which}, {each['other']}: {side} ({chance})."


def _judged(found: Mapping[str, Any], each: Mapping[str, Any]) -> tuple[str, str]:
    """Whether two arms are separated, and p. Seeds share the test set: few examples separate no small difference."""
    p, tested = each["p"], found.get("test_examples", FEW_TESTED)
    chance = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    if p >= SIGNIFICANT:
        return "not separated", chance
    if "task" not in found and tested < FEW_TESTED and abs(each["difference"]) <= _margin(found):
        return "not separated", f"{chance}, but all on the same {tested} test examples"
    return "separated", chance
