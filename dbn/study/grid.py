"""The grid of a study: shapes of networks, and the arms of every cell."""

from collections.abc import Sequence
from typing import NamedTuple

from dbn.config import PretrainConfig, StudyConfig
from dbn.errors import InputError
from dbn.models.mlp import ACTIVATIONS


class CellArm(NamedTuple):
    """An arm in a cell of the grid, under all seeds: the work of one process at a time."""

    labels: int | str
    """One of `StudyTraining.amounts`."""
    hidden: tuple[int, ...]
    activation: str
    """Of the cell; empty where every arm has its own."""
    arm: str
    """As `init` names it."""

    @property
    def cell(self) -> str:
        """The cell's name: 100-labels-500x2-tanh."""
        return dashed(f"{self.labels}-labels", self.shape, self.activation)

    @property
    def shape(self) -> str:
        """500x3 for three layers of 500 units, 500-2000 for layers that differ."""
        if len(self.hidden) > 1 and len(set(self.hidden)) == 1:
            return f"{self.hidden[0]}x{len(self.hidden)}"
        return dashed(*self.hidden)

    @property
    def full_arm(self) -> str:
        """The arm with the activation of the cell."""
        return f"{self.arm}:{self.activation}" if self.activation else self.arm


def network_shapes(
    config: StudyConfig, recipe: PretrainConfig | None, stacks: Sequence[Sequence[int]]
) -> list[tuple[int, ...]]:
    """The hidden layers of each depth; `stacks`: the sizes of those that `config.pretrained` names.

    InputError for more depth than there are layers, and for a stack with other layers.
    """
    hidden, depths, whose = config.hidden, config.depths, "--hidden"
    if hidden is None and recipe:
        hidden, whose = recipe.training.hidden, f"--recipe {config.recipe}"
    elif hidden is None:
        hidden, whose = tuple(stacks[0][1:]), f"the stack {config.pretrained[0]}"
    if config.hidden and len(hidden) == 1:
        hidden *= max(depths or (1,))
    depths = depths or (len(hidden),)
    if max(depths) > len(hidden):
        raise InputError(f"--depths {max(depths)} is more than the {len(hidden)} layers of {whose}")
    for path, sizes in zip(config.pretrained, stacks, strict=True):
        if tuple(sizes[1 : 1 + max(depths)]) != hidden[: max(depths)]:
            raise InputError(
                f"the deepest networks have layers of {dashed(*hidden[: max(depths)])}, but the stack {path} of "
                f"{dashed(*sizes[1:])}: pre-train one that starts with the same"
            )
    return [hidden[:depth] for depth in depths]


def grid(config: StudyConfig, shapes: Sequence[tuple[int, ...]]) -> list[CellArm]:
    """Every arm in every cell. InputError for an unknown activation, or one that an arm names as well."""
    for name in config.activations:
        if name not in ACTIVATIONS:
            raise InputError(f"--activations: there is no {name!r}: choose from {', '.join(ACTIVATIONS)}")
    if config.activations:
        for text in config.training.init:
            if ":" in text:
                raise InputError(f"--init {text} has an activation, which --activations varies: leave one out")
    return [
        CellArm(labels, hidden, activation, arm)
        for labels in config.training.amounts
        for hidden in shapes
        for activation in config.activations or ("",)
        for arm in config.training.init
    ]


def dashed(*parts: object) -> str:
    """500-500-2000: the parts that are not empty."""
    return "-".join(filter(None, map(str, parts)))
