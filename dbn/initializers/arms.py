"""Initializers by name, and the arms of a comparison.

An initializer sets the hidden layers of a network. The output layer is the caller's, alike for every arm, except under
`zeros` and `constant`, which set it too.
"""

from dataclasses import dataclass

from dbn.errors import InputError, check_types
from dbn.initializers import ALIASES, INITIALIZERS
from dbn.initializers.schemes import Initializer, from_dbn
from dbn.models.dbn import DBN
from dbn.models.mlp import ACTIVATIONS
from dbn.registry import NumberRule, read_parameters, split_call, suggestion

# Well inside single precision, which ends at 1e-38 and 3e38.
_SPREAD = NumberRule("a number between 1e-9 and 1e9", lambda value: 1e-9 <= value <= 1e9)
_LEVEL = NumberRule("a number between -1e9 and 1e9", lambda value: -1e9 <= value <= 1e9)

PARAMETER_RULES = {
    "bias": _LEVEL,
    "bound": _SPREAD,
    "gain": _SPREAD,
    "sparsity": NumberRule("a number at least 0 and below 1", lambda share: 0 <= share < 1),
    "std": _SPREAD,
    "value": _LEVEL,
}
"""By name of the parameter, for all initializers; one of another name may be any finite number."""


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

    def initializer(self, stack: DBN | None, *, mirrored: bool = False) -> Initializer:
        """The initializer with its parameters; for `dbn` from the stack, whose `mirrored` networks are autoencoders."""
        if self.start != "dbn":
            return INITIALIZERS[self.start](**dict(self.parameters))
        if stack is None:
            raise InputError("the arm 'dbn' starts from a stack: name one with --pretrained")
        return from_dbn(stack, mirrored=mirrored)


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


def parse_initializer(text: str) -> Initializer:
    """The initializer NAME or NAME(PARAMETER=VALUE, …); InputError for `dbn`, which needs a stack."""
    name, parameters = parse_scheme(text)
    if name == "dbn":
        raise InputError("'dbn' needs a stack: give dbn.initializers.from_dbn(stack)")
    initializer: Initializer = INITIALIZERS[name](**dict(parameters))
    return initializer


def parse_scheme(text: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The name, no alias, and the parameters given of an initializer NAME or NAME(PARAMETER=VALUE, …), or of "dbn"."""
    call = split_call(text)
    if call is None:
        raise InputError(
            f"invalid arm {text!r}: expected NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE, ...):ACTIVATION, in quotes "
            "where there are parentheses"
        )
    written, inside = call
    start = ALIASES.get(written, written)
    if start not in ("dbn", *INITIALIZERS):
        raise InputError(f"there is no initializer {written!r}{suggestion(written, ['dbn', *INITIALIZERS, *ALIASES])}")
    known = {} if start == "dbn" else INITIALIZERS.parameters(start)
    return start, tuple(read_parameters(written, inside, known, PARAMETER_RULES).items())
