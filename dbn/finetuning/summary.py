"""Numbers of a comparison, as result.json holds them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dbn.config.finetuning import Finetuning
from dbn.finetuning.problem import Problem
from dbn.finetuning.results import TunedArm
from dbn.initializers import ALIASES
from dbn.models.idle import idle_layers
from dbn.rng import fixed_subset
from dbn.statistics import mean_interval, paired_t_test

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
    learned = {name: arm for name, arm in arms.items() if not is_stuck(arm)}
    return {
        "dataset": problem.splits.name,
        "labels": problem.labels,
        "valid_labels": problem.valid_labels,
        "refit": problem.config.refit,
        **_pseudo_labels(problem.config),
        "seeds": list(problem.seeds),
        "stacks": len(problem.stacks),
        "idle_layers": _idle_layers(problem),
        "test_examples": len(problem.test),
        **task.about(problem.test),
        "arms": arms,
        "comparison": _separation(learned),
        "dbn_against": _dbn_against(learned),
    }


def _pseudo_labels(config: Finetuning) -> dict[str, str]:
    written, least = config.pseudo_labels, config.pseudo_confidence
    return {} if written is None else {"pseudo_labels": f"{written} rows" + (f", p ≥ {least:g}" if least else "")}


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


def is_stuck(arm: Mapping[str, Any]) -> bool:
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
