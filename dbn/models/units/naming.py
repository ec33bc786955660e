"""Units from their names in options and files: NAME, NAME(PARAMETER=VALUE, …), or NUMBER NAME + NUMBER NAME."""

from collections.abc import Mapping
from typing import Any

from dbn.errors import InputError
from dbn.models.units import UNITS
from dbn.models.units.base import Units
from dbn.registry import read_parameters, split_call, split_sum


def make_units(text: str, size: int) -> Units:
    """`size` units of the type that `text` names; InputError for a type or parameter that there is not.

    >>> make_units("bernoulli", 5)
    Bernoulli(5)
    >>> make_units("3 bernoulli + 2 gaussian", 5)
    Mixed(5, parts=3 bernoulli + 2 gaussian)
    """
    if split_sum(text):
        return _made("mixed", size, {"parts": text})
    call = split_call(text)
    if call is None:
        raise InputError(f"invalid unit type {text!r}: expected NAME or NAME(PARAMETER=VALUE, …)")
    name, inside = call
    if name == "mixed":
        raise InputError("mixed units are named by their parts: write NUMBER TYPE + NUMBER TYPE")
    known = {key: each for key, each in UNITS.parameters(name).items() if key != "size"}
    settings = read_parameters(name, inside, known, {})
    return _made(name, size, {key: int(value) if value == int(value) else value for key, value in settings.items()})


def units_for(text: str, columns: int) -> Units:
    """The visible units of so many columns of data; InputError as for `make_units`, and where parts need others.

    >>> units_for("categorical(states=3)", 2), units_for("1 bernoulli + 6 categorical(states=3)", 3)
    (Categorical(6, states=3), Mixed(7, parts=1 bernoulli + 6 categorical(states=3)))
    """
    if (parts := split_sum(text)) is None:
        codes: Any = make_units(text, 0).codes
        return make_units(text, columns * (codes or 1))
    units = make_units(text, sum(count for count, _ in parts))
    codes = units.codes
    if len(codes) != columns:
        raise InputError(f"--visible {text} takes {len(codes)} columns, but the data have {columns}: count the columns")
    return units


def _made(name: str, size: int, settings: Mapping[str, Any]) -> Units:
    kind: Any = UNITS[name]
    units: Units = kind(size, **settings)
    return units


def units_of(description: Mapping[str, Any]) -> Units:
    """The units, with parameters 0, that `Units.description` describes."""
    settings = dict(description)
    return _made(settings.pop("kind"), int(settings.pop("size")), settings)
