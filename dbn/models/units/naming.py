"""Units from their names in options and files: NAME, NAME(PARAMETER=VALUE, …), or NUMBER NAME + NUMBER NAME."""

from collections.abc import Mapping
from typing import Any

from dbn.errors import InputError
from dbn.models.units import UNITS
from dbn.models.units.base import Units
from dbn.registry import read_parameters, split_call


def make_units(text: str, size: int) -> Units:
    """`size` units of the type that `text` names; InputError for a type or parameter that there is not.

    >>> make_units("bernoulli", 5)
    Bernoulli(5)
    >>> make_units("3 bernoulli + 2 gaussian", 5)
    Mixed(5, parts=3 bernoulli + 2 gaussian)
    """
    if is_mixed(text):
        mixed: Any = UNITS["mixed"]
        return mixed(size, parts=text)
    call = split_call(text)
    if call is None:
        raise InputError(f"invalid unit type {text!r}: expected NAME or NAME(PARAMETER=VALUE, …)")
    name, inside = call
    kind = UNITS[name]
    known = {key: each for key, each in UNITS.parameters(name).items() if key != "size"}
    settings: dict[str, Any] = dict(read_parameters(name, inside, known, {}))
    return kind(size, **{key: int(value) if value == int(value) else value for key, value in settings.items()})


def units_of(description: Mapping[str, Any]) -> Units:
    """The units, with parameters 0, that `Units.description` describes."""
    settings = dict(description)
    return UNITS[settings.pop("kind")](int(settings.pop("size")), **settings)


def is_mixed(text: str) -> bool:
    """Whether the text means units of several types, NUMBER NAME + NUMBER NAME."""
    return text.strip()[:1].isdecimal()
