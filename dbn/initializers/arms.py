"""The table of initialisers, and the arms of a comparison that name them.

An initialiser fills the hidden layers of a given network; the output layer is the caller's, alike for every arm,
except under `zeros` and `constant`, which fill it too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from dbn.errors import InputError
from dbn.initializers import INITIALIZERS
from dbn.initializers.schemes import Initializer, from_dbn
from dbn.models.dbn import DBN
from dbn.models.mlp import ACTIVATIONS


class Rule(NamedTuple):
    """The values that a parameter may have, in words and as a test."""

    wanted: str
    allowed: Callable[[float], bool]


# Well inside single precision, which ends at 1e-38 and 3e38.
_SPREAD = Rule("between 1e-9 and 1e9", lambda value: 1e-9 <= value <= 1e9)


_LEVEL = Rule("between -1e9 and 1e9", lambda value: -1e9 <= value <= 1e9)


PARAMETER_RULES = {
    "bias": _LEVEL,
    "bound": _SPREAD,
    "gain": _SPREAD,
    "sparsity": Rule("at least 0 and below 1", lambda share: 0 <= share < 1),
    "std": _SPREAD,
    "value": _LEVEL,
}
"""What each parameter of an initialiser may be, whichever it belongs to."""


@dataclass(frozen=True)
class Arm:
    """One line of a comparison: a start, its parameters, and an activation."""

    name: str
    """As the user wrote it, without spaces: NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE,…):ACTIVATION."""
    start: str
    activation: str
    parameters: tuple[tuple[str, float], ...] = ()
    """Those that were given."""

    @property
    def meaning(self) -> tuple[str, str, dict[str, float | None]]:
        """Alike for two spellings of one arm: the start, the activation, and all parameters, given or not."""
        known = {} if self.start == "dbn" else INITIALIZERS.parameters(self.start)
        return self.start, self.activation, {name: each.default for name, each in known.items()} | dict(self.parameters)

    def initializer(self, stack: DBN | None) -> Initializer:
        """The start under its parameters; from the stack for `dbn`."""
        if self.start != "dbn":
            return INITIALIZERS[self.start](**dict(self.parameters))
        if stack is None:
            raise InputError("the arm 'dbn' starts from a stack: name one with --pretrained")
        return from_dbn(stack)


def parse_arm(text: str) -> Arm:
    """NAME, NAME:ACTIVATION, NAME(PARAMETER=VALUE, …) or both; InputError for what no table or rule knows."""
    match = re.fullmatch(r"([^(:]*)(\(([^()]*)\))?(:.*)?", "".join(text.split()))
    if match is None:
        raise InputError(
            f"--init: {text!r} is no arm: write NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE, ...):ACTIVATION, "
            "in quotes where there are brackets"
        )
    start, brackets, inside, colon = match.groups()
    known = ["dbn", *INITIALIZERS]
    if start not in known:
        raise InputError(f"--init: there is no initialiser {start!r}: {_hint(start, known)}")
    parameters = _parse_parameters(start, inside) if brackets else ()
    activation = "sigmoid" if start == "dbn" else INITIALIZERS[start]().activation
    if colon:
        activation = colon[1:]
    if activation not in ACTIVATIONS:
        raise InputError(
            f"--init: {text!r} names no known activation: choose from {', '.join(ACTIVATIONS)} after the colon"
        )
    return Arm(match.string, start, activation, parameters)


def _parse_parameters(start: str, inside: str) -> tuple[tuple[str, float], ...]:
    known = [] if start == "dbn" else list(INITIALIZERS.parameters(start))
    if not known:
        raise InputError(f"--init: {start} has no parameters: leave the brackets out")
    found: dict[str, float] = {}
    for part in inside.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"--init: {part!r} is no parameter of {start}: write NAME=VALUE, with {_listed(known)}")
        if name not in known:
            raise InputError(f"--init: {start} has no parameter {name!r}: it has {_listed(known)}")
        if name in found:
            raise InputError(f"--init: {start} is given {name} twice: keep one")
        number = float(value) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value) else None
        if number is None or not PARAMETER_RULES[name].allowed(number):
            raise InputError(
                f"--init: {name} of {start} must be a number {PARAMETER_RULES[name].wanted}, not {value!r}"
            )
        found[name] = number
    return tuple(found.items())


def _hint(name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, 1)
    return f"did you mean {nearest[0]!r}" if nearest else f"choose from {', '.join(known)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
