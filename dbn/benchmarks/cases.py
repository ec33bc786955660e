"""The table of cases, what each is compared with, and the sizes of a full run.

A ratio is that of a step to a step of a baseline in the same repeat. A new case is a function and a line in `CASES`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from dbn.benchmarks.others import learnergy_epoch, learnergy_step, rbms, scikit_learn, tutorial_epoch, tutorial_step
from dbn.benchmarks.ours import (
    TEMPERATURES,
    annealing,
    as_wide,
    epoch_of,
    finetune_epoch,
    finetune_step,
    steps_of,
    tempered,
)
from dbn.benchmarks.products import five_products, network_products, two_products
from dbn.benchmarks.running import Case, Setting
from dbn.errors import InputError

Key = tuple[str, str]
"""A case and its precision."""

BOTH = ("float32", "bf16")
PLAIN: dict[str, Any] = {"centered": False, "momentum": "0.5,0.9@6"}
PCD: dict[str, Any] = {"estimator": "pcd", **PLAIN}
PT: dict[str, Any] = {"estimator": "pt", "temperatures": TEMPERATURES, **PLAIN}
CENTERED = PCD | {"centered": True}

CASES: dict[str, Case] = {
    "products": Case(five_products),
    "products-bf16": Case(lambda setting: five_products(setting, torch.bfloat16), ("products",), ("bf16",)),
    "cd1-step": Case(steps_of(), ("products",), BOTH),
    "cd1-categorical-step": Case(steps_of(visible="categorical(states=4)"), ("cd1-step",), standard=False),
    "cd1-epoch": Case(epoch_of(), ("products",), BOTH),
    "tutorial-step": Case(tutorial_step, ("products", "cd1-step"), on_gpu=False),
    "tutorial-epoch": Case(tutorial_epoch, ("products", "cd1-epoch"), on_gpu=False),
    "learnergy-step": Case(learnergy_step, ("cd1-step",), on_gpu=False),
    "learnergy-epoch": Case(learnergy_epoch, ("cd1-epoch",), on_gpu=False),
    **{
        f"cd1-{name}-epoch": Case(epoch_of(optimizer=name), ("products",), standard=name == "adam")
        for name in ("adam", "adamw", "nadam", "rmsprop", "adagrad")
    },
    "cd10-step": Case(steps_of(gibbs_steps=10), ("products", "cd1-step"), BOTH),
    "cd10-epoch": Case(epoch_of(gibbs_steps=10), ("products", "cd1-epoch"), BOTH),
    "pcd1-step": Case(steps_of(**PCD), ("products", "cd1-step"), BOTH),
    "pcd1-epoch": Case(epoch_of(**PCD), ("products", "cd1-epoch"), BOTH),
    "scikit-learn-epoch": Case(scikit_learn, ("pcd1-epoch",), on_gpu=False),
    "rbms-epoch": Case(rbms(centered=False), ("pcd1-epoch",), on_gpu=False),
    "pcd1-centred-step": Case(steps_of(**CENTERED), ("products", "cd1-step"), BOTH),
    "pcd1-centred-epoch": Case(epoch_of(**CENTERED), ("products", "cd1-epoch"), BOTH),
    "rbms-centred-epoch": Case(rbms(centered=True), ("pcd1-centred-epoch",), on_gpu=False),
    "cd1-wide-step": Case(as_wide(steps_of), (), BOTH),
    "pt-step": Case(tempered(steps_of(**PT)), ("cd1-wide-step",), BOTH),
    "cd1-wide-epoch": Case(as_wide(epoch_of), (), BOTH),
    "pt-epoch": Case(tempered(epoch_of(**PT)), ("cd1-wide-epoch",), BOTH),
    "finetune-products": Case(network_products),
    "finetune-step": Case(finetune_step, ("finetune-products",)),
    "finetune-epoch": Case(finetune_epoch, ("finetune-products",), on_gpu=False),
    "ais-products": Case(two_products),
    "ais": Case(annealing, ("ais-products",)),
}
"""Every case by its name on the command line, each near those that it is compared with."""

GRID = ("products", "products-bf16", "cd1-epoch", "pcd1-epoch", "tutorial-epoch", "scikit-learn-epoch")
"""The cases that `--full` times at every size."""


def grid(base: Setting) -> list[Setting]:
    """`--full`: batch 10 … 1,000 × hidden 100 … 4,096 over as many examples, six times the examples, all layers."""
    batches, hidden = (10, 100, 1000), (100, 500, 2000, 4096)
    settings = [
        replace(base, sizes=(base.sizes[0], units), batch_size=batch, steps=max(1, base.examples // batch))
        for units in hidden
        for batch in batches
    ]
    settings.append(replace(base, steps=6 * base.steps))
    layers = (base.sizes[0], 500, 500, 2000)
    settings += [replace(base, sizes=layers[:depth]) for depth in (3, 4)]
    return [setting for setting in dict.fromkeys(settings) if setting != base]


def plan(names: Iterable[str], precisions: Sequence[str], cases: Mapping[str, Case] = CASES) -> dict[Key, list[Key]]:
    """What is to be timed, and the baselines of each, themselves among it; in the order of `cases`.

    A baseline has the precision of what is compared with it, or, where only one of them has a choice, every one that it
    can have. InputError for a name that is no case's.
    """
    baselines: dict[Key, list[Key]] = {}

    def add(name: str, precision: str) -> None:
        if (name, precision) in baselines:
            return
        found = baselines[name, precision] = []
        for other in cases[name].baselines:
            theirs = cases[other].precisions
            if len(cases[name].precisions) > 1 and precision in theirs:
                found.append((other, precision))
            else:
                found += [(other, each) for each in theirs if each in precisions] or [(other, theirs[0])]
        for key in found:
            add(*key)

    for name in names:
        if name not in cases:
            raise InputError(f"--cases {name} is not known: choose from {', '.join(cases)}")
        asked = cases[name].precisions
        # What has no choice needs no --precision float32; what is in bfloat16 alone only goes with bf16.
        for precision in asked if asked == ("float32",) else [each for each in asked if each in precisions]:
            add(name, precision)
    if not baselines:
        raise InputError(f"--cases {' '.join(names)} has nothing in --precision {' '.join(precisions)}: add bf16")
    order = list(cases)
    return dict(sorted(baselines.items(), key=lambda item: (order.index(item[0][0]), item[0][1] != "float32")))
