"""Report of a comparison: numbers for result.json, a table, and sentences on what differs and what is doubtful."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dbn.errors import listed
from dbn.finetuning.problem import Problem
from dbn.finetuning.results import TunedArm
from dbn.initializers import ALIASES
from dbn.models.idle import idle_layers, idle_sentence
from dbn.rng import fixed_subset
from dbn.runs.classifier import has_classifier
from dbn.runs.folder import RESULT, RunFolder
from dbn.statistics import mean_interval, paired_t_test
from dbn.storage.files import corrupt_file
from dbn.tasks import TASKS, Task
from dbn.text_tables import Row, plain_table

SIGNIFICANT = 0.05
FEW_TESTED, FEW_VALIDATED = 100, 30
"""Below these numbers of examples the head of the table says what one of them counts."""
MEASURED = 1000
"""Rows on which the hidden units of a stack are measured."""
RIVALS = "xavier_uniform", "xavier_normal", "he_uniform", "he_normal"
XAVIER_HE = "best of Xavier and He"


def result(problem: Problem, chosen: Sequence[TunedArm], tested: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The results as plain data: errors in %, intervals in points, seconds of training without measurements.

    Lists of an arm that start with test_ or valid_ have an entry per seed. `confusion` (true class, predicted class) is
    summed over seeds, `recall` and `precision` are figures of that sum. `one_class` counts the seeds under which nearly
    every test example is given the same class. None is what is not finite, and of classes without examples.

    Of other tasks than classes the errors are as `Task.heading` says, and the figures those of `Task.columns` and
    `Task.summary`.
    """
    arms, task = {}, problem.task
    for each in chosen:
        found = tested[each.arm.name]
        errors = [scores.error for scores in found]
        mean, half_width = mean_interval(errors)
        arms[each.arm.name] = {
            "test_error": errors,
            "mean": mean,
            "ci95": half_width,
            **_beside(found),
            "valid_error": [fit.valid_error for fit in each.tuned],
            "learning_rate": each.learning_rate,
            "activation": each.arm.activation,
            "normalise": problem.description(each.arm)["normalise"],
            "best_epoch": [fit.best_epoch for fit in each.tuned],
            "diverged": sum(a.diverged or b.diverged for a, b in zip(each.tuned, each.final, strict=True)),
            **task.stuck(found),
            "seconds": [fit.seconds for fit in each.final],
            **task.summary(found),
        }
    learned = {name: arm for name, arm in arms.items() if not _is_stuck(arm)}
    return {
        "dataset": problem.splits.name,
        "labels": problem.labels,
        "valid_labels": problem.valid_labels,
        "refit": problem.config.refit,
        "seeds": list(problem.seeds),
        "stacks": len(problem.stacks),
        "idle_layers": _idle_layers(problem),
        "test_examples": len(problem.test),
        **task.about(problem.test),
        "arms": arms,
        "comparison": _separation(learned),
        "dbn_against": _dbn_against(learned),
    }


def _beside(found: Sequence[Any]) -> dict[str, list[float | None]]:
    """The figures beside the error, by name and seed."""
    figures = [scores.figures() for scores in found]
    return {
        f"test_{name}": [each[name] if math.isfinite(each[name]) else None for each in figures]
        for name in figures[0]
        if name != "error"
    }


def _idle_layers(problem: Problem) -> list[int]:
    """The layers that have hardly left their start in a stack that an arm uses."""
    if not problem.config.uses_stack:
        return []
    x = problem.splits.train.x
    rows = problem.scaling(x[fixed_subset(len(x), MEASURED).to(x.device)])
    return sorted({layer for stack in problem.stacks for layer in idle_layers(stack, rows)})


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


def _is_stuck(arm: Mapping[str, Any]) -> bool:
    """Whether it gives nearly every test example the same class under every seed."""
    return bool(arm.get("one_class") == len(arm["test_error"]))


def _separation(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The best arm against the next: difference of the means in points, and p of the paired t-test over seeds."""
    if len(arms) < 2:
        return None
    best, following = sorted(arms, key=lambda name: arms[name]["mean"])[:2]
    return {"best": best, "next": following, **_difference(arms[best], arms[following])}


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """How many points b has more than a, and p: None where there is no test, under one seed or as none differs."""
    errors = a["test_error"], b["test_error"]
    return {"difference": b["mean"] - a["mean"], "p": paired_t_test(*errors) if len(errors[0]) > 1 else None}


def _dbn_against(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The best `dbn` arm against the best other arm, and against the best of Xavier and He: as `_separation`."""

    def best(names: Sequence[str]) -> str | None:
        return min((name for name in arms if _scheme(name) in names), key=lambda name: arms[name]["mean"], default=None)

    mine = best(["dbn"])
    others = {"best other arm": best([each for each in map(_scheme, arms) if each != "dbn"]), XAVIER_HE: best(RIVALS)}
    return {
        which: {"dbn": mine, "other": other, **_difference(arms[mine], arms[other])}
        for which, other in others.items()
        if mine and other
    }


def _scheme(arm: str) -> str:
    """The initializer of an arm, by its own name."""
    name = re.split(r"[(:]", arm)[0]
    return ALIASES.get(name, name)


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
    tested = f", {found['test_examples']:,} for testing" if "test_examples" in found else ""
    return (
        f"{found['dataset']}: {found['labels']:,} training labels, {found['valid_labels']:,} for validation{refit}"
        f"{tested}; {n} seed{'s' if n > 1 else ''}, {interval}; "
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
        learned = [name for name, arm in found["arms"].items() if not _is_stuck(arm)]
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
