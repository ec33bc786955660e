"""Initializers by name, and the arms of a comparison.

An initializer sets the hidden layers of a network. The output layer is the caller's, alike for every arm, except under
`zeros` and `constant`, which set it too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dbn.errors import InputError, check_types
from dbn.initializers import ALIASES, INITIALIZERS
from dbn.initializers.schemes import Initializer, from_dbn
from dbn.models.dbn import DBN
from dbn.models.mlp import ACTIVATIONS
from dbn.registry import suggestion


class Rule(NamedTuple):
    """The values of a parameter, in words and as a test."""

    wanted: str
    allowed: Callable[[float], bool]


# Well inside single precision, which ends at 1e-38 and 3e38.
_SPREAD = Rule("a number between 1e-9 and 1e9", lambda value: 1e-9 <= value <= 1e9)
_LEVEL = Rule("a number between -1e9 and 1e9", lambda value: -1e9 <= value <= 1e9)
_FINITE = Rule("a finite number", lambda value: abs(value) < float("inf"))

PARAMETER_RULES = {
    "bias": _LEVEL,
    "bound": _SPREAD,
    "gain": _SPREAD,
    "sparsity": Rule("a number at least 0 and below 1", lambda share: 0 <= share < 1),
    "std": _SPREAD,
    "value": _LEVEL,
}
"""Rules by name of the parameter, for all initializers; a parameter of another name may be any finite number."""


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: an initializer, its parameters, and an activation."""

    name: str
    """As the user wrote it, without spaces: NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE,…):ACTIVATION."""
    start: str
    """The name of the initializer, no alias."""
    activation: str
    parameters: tuple[tuple[str, float], ...] = ()
    """Those given."""

    @property
    def meaning(self) -> tuple[str, str, dict[str, float | None]]:
        """The same for all spellings of an arm: initializer, activation, and all parameters with their defaults."""
        known = {} if self.start == "dbn" else INITIALIZERS.parameters(self.start)
        return self.start, self.activation, {name: each.default for name, each in known.items()} | dict(self.parameters)

    def initializer(self, stack: DBN | None) -> Initializer:
        """The initializer with its parameters; for `dbn` from the stack."""
        if self.start != "dbn":
            return INITIALIZERS[self.start](**dict(self.parameters))
        if stack is None:
            raise InputError("the arm 'dbn' starts from a stack: name one with --pretrained")
        return from_dbn(stack)


@check_types
def parse_arm(text: str) -> Arm:
    """An arm from NAME, NAME:ACTIVATION, NAME(PARAMETER=VALUE, …) or both; InputError for anything else.

    >>> parse_arm("kaiming_normal(bias=0.1):tanh")
    Arm(name='kaiming_normal(bias=0.1):tanh', start='he_normal', activation='tanh', parameters=(('bias', 0.1),))
    """
    try:
        name, colon, activation = "".join(text.split()).partition(":")
        start, parameters = parse_scheme(name)
        if not colon:
            activation = "sigmoid" if start == "dbn" else INITIALIZERS[start](**dict(parameters)).activation
        if activation not in ACTIVATIONS:
            raise InputError(f"{text!r} has no known activation after the colon{suggestion(activation, ACTIVATIONS)}")
        return Arm(name + colon + (activation if colon else ""), start, activation, parameters)
    except InputError as error:
        raise InputError(f"--init: {error}") from None


def parse_scheme(text: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The name, no alias, and the parameters given of an initializer NAME or NAME(PARAMETER=VALUE, …), or of "dbn"."""
    match = re.fullmatch(r"([^()]*)(\(([^()]*)\))?", "".join(text.split()))
    if match is None:
        raise InputError(
            f"invalid arm {text!r}: expected NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE, ...):ACTIVATION, in quotes "
            "where there are parentheses"
        )
    written, parentheses, inside = match.groups()
    start = ALIASES.get(written, written)
    if start not in ("dbn", *INITIALIZERS):
        raise InputError(f"there is no initializer {written!r}{suggestion(written, ['dbn', *INITIALIZERS, *ALIASES])}")
    known = {} if start == "dbn" else INITIALIZERS.parameters(start)
    if parentheses and not known:
        raise InputError(f"{written} has no parameters: leave the parentheses out")
    found: dict[str, float] = {}
    for part in inside.split(",") if parentheses else ():
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not a parameter of {written}: write NAME=VALUE, with {_listed(list(known))}")
        if name not in known:
            raise InputError(f"{written} has no parameter {name!r}: it has {_listed(list(known))}")
        if name in found:
            raise InputError(f"{written} has {name} twice: keep one")
        rule = PARAMETER_RULES.get(name, _FINITE)
        number = float(value) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value) else None
        if number is None or not rule.allowed(number):
            raise InputError(f"{name} of {written} must be {rule.wanted}, not {value!r}")
        found[name] = number
    missing = [name for name, each in known.items() if each.default is each.empty and name not in found]
    if missing:
        raise InputError(f"{written} needs {_listed(missing)}: write {written}({missing[0]}=VALUE)")
    return start, tuple(found.items())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
