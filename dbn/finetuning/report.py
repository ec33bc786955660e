"""Report of a comparison: numbers for result.json, a table, and a sentence on whether the best arm is separated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dbn.errors import InputError
from dbn.finetuning.problem import Problem
from dbn.finetuning.results import TunedArm
from dbn.runs.classifier import has_classifier
from dbn.runs.folder import RESULT, RunFolder
from dbn.statistics import mean_interval, paired_t_test
from dbn.storage.files import corrupt_file
from dbn.text_tables import plain_table

SIGNIFICANT = 0.05


def result(problem: Problem, chosen: Sequence[TunedArm], test_errors: Mapping[str, list[float]]) -> dict[str, Any]:
    """The results as plain data: errors in %, intervals in points, seconds of training without measurements."""
    arms = {}
    for each in chosen:
        errors = test_errors[each.arm.name]
        mean, half_width = mean_interval(errors)
        arms[each.arm.name] = {
            "test_error": errors,
            "mean": mean,
            "ci95": half_width,
            "valid_error": [fit.valid_error for fit in each.tuned],
            "learning_rate": each.learning_rate,
            "activation": each.arm.activation,
            "normalise": problem.description(each.arm)["normalise"],
            "best_epoch": [fit.best_epoch for fit in each.tuned],
            "diverged": sum(a.diverged or b.diverged for a, b in zip(each.tuned, each.final, strict=True)),
            "seconds": [fit.seconds for fit in each.final],
        }
    return {
        "dataset": problem.splits.name,
        "labels": problem.labels,
        "valid_labels": problem.valid_labels,
        "refit": problem.config.refit,
        "seeds": list(problem.seeds),
        "stacks": len(problem.stacks),
        "arms": arms,
        "comparison": _separation(arms),
    }


def finished(run: RunFolder) -> str | None:
    """The report of a complete comparison, from its result.json; None while it is incomplete or lacks a classifier.

    InputError when result.json is damaged.
    """
    file = run.path / RESULT
    if not file.is_file():
        return None
    try:
        found = run.read_json(RESULT)
        text = comparison_text(found)
        return text if all(has_classifier(run, arm) for arm in found["arms"]) else None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise corrupt_file(file, "it is not that of a comparison") from error


def comparison_text(found: Mapping[str, Any]) -> str:
    """Heading, table and sentence."""
    return f"{heading(found)}\n\n{table(found)}\n\n{sentence(found)}"


def _separation(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The best arm against the next: difference of the means in points, and p of the paired t-test over seeds."""
    if len(arms) < 2:
        return None
    best, following = sorted(arms, key=lambda name: arms[name]["mean"])[:2]
    a, b = arms[best]["test_error"], arms[following]["test_error"]
    return {
        "best": best,
        "next": following,
        "difference": arms[following]["mean"] - arms[best]["mean"],
        "p": paired_t_test(a, b) if len(a) > 1 else None,
    }


def table(found: Mapping[str, Any]) -> str:
    """One line per arm, best first."""
    rows = []
    for name, arm in sorted(found["arms"].items(), key=lambda item: item[1]["mean"]):
        n = len(arm["valid_error"])
        interval = "" if arm["ci95"] is None else f" ± {arm['ci95']:.2f}"
        diverged = f"  (diverged under {arm['diverged']} of {n} seeds)" if arm["diverged"] else ""
        rows.append(
            (
                name,
                arm["activation"] + ", normalized" * arm["normalise"],
                f"{arm['learning_rate']:g}",
                f"{arm['mean']:.2f}{interval}",
                f"{math.fsum(arm['valid_error']) / n:.2f}",
                f"{math.fsum(arm['seconds']) / n:.1f}{diverged}",
            )
        )
    return plain_table(("arm", "activation", "rate", "test error %", "validation %", "seconds"), rows, align="llllll")


def heading(found: Mapping[str, Any]) -> str:
    """What the table is about."""
    n = len(found["seeds"])
    interval = "mean ± 95 % interval (Student's t)" if n > 1 else "one seed, no interval"
    one = "one pre-trained stack" + (", whose own variance the interval leaves out" if n > 1 else "")
    stacks = {0: "no pre-trained stack", 1: one}
    refit = ", refitted on both" if found["refit"] else ""
    return (
        f"{found['dataset']}: {found['labels']:,} training labels, {found['valid_labels']:,} for validation{refit}; "
        f"{n} seed{'s' if n > 1 else ''}, {interval}; {stacks.get(found['stacks'], 'one pre-trained stack a seed')}"
    )


def sentence(found: Mapping[str, Any]) -> str:
    """Whether the best arm is separated from the next."""
    comparison, n = found["comparison"], len(found["seeds"])
    if comparison is None:
        return "One arm alone: nothing to compare it with."
    best, following, points = comparison["best"], comparison["next"], comparison["difference"]
    if comparison["p"] is None:
        return f"{best} is {points:.2f} points ahead of {following} under one seed, which says nothing about chance."
    p = f"p = {comparison['p']:.3f}" if comparison["p"] >= 0.001 else "p < 0.001"
    test = f"paired t-test over {n} seeds: {p}"
    if comparison["p"] < SIGNIFICANT:
        return f"{best} is separated from the next best, {following}: {points:.2f} points ahead ({test})."
    return f"{best} is not separated from the next best, {following}: {points:.2f} points ahead ({test})."
