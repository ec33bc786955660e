"""The usual names of arrays in files: which are rows and labels, for training, validation and testing."""

from collections.abc import Iterable, Mapping
from typing import Any

from dbn.errors import InputError, listed

ROWS, LABELS = ("x", "data", "images"), ("y", "labels", "target", "targets")
ALONE = {"x": (*ROWS, "arr_0"), "y": (*LABELS, "label")}
PARTS = {"train": "", "valid": "_valid", "val": "_valid", "validation": "_valid", "test": "_test"}
"""The part of a table by what its arrays, folders or splits are called."""
ROLES = {each: key for key, names in ALONE.items() for each in names} | {
    each: f"{key}{part}"
    for word, part in PARTS.items()
    for key, names in (("x", ROWS), ("y", LABELS))
    for name in names
    for each in (f"{name}_{word}", f"{word}_{name}")
}
"""`x` or `y`, with the part, by name in small letters: `x_train` and `train_images` are `x`, `y_val` is `y_valid`."""


def roles(keys: Iterable[str]) -> dict[str, str]:
    """The role of every name that has one."""
    return {key: ROLES[key.lower()] for key in keys if key.lower() in ROLES}


def weight_roles(keys: Iterable[str], weight_column: str | None, name: str) -> dict[str, str]:
    """The role, `w` with the part, of every name of an array of weights; InputError where that of training lacks."""
    if weight_column is None:
        return {}
    keys, called = list(keys), {weight_column: "w"}
    for word, part in PARTS.items():
        called |= {f"{weight_column}_{word}": f"w{part}", f"{word}_{weight_column}": f"w{part}"}
    found = {key: called[key] for key in keys if key in called}
    if "w" not in found.values():
        raise InputError(f"{name}: there is no array {weight_column!r} of weights, only {listed(keys)}")
    return found


def by_role(arrays: Mapping[str, Any], keys: Iterable[str], name: str, weights: str | None = None) -> dict[str, Any]:
    """The arrays by role; InputError for two arrays of one role, and where there are no rows.

    weights: the name of those of the rows.
    """
    keys = list(keys)
    found: dict[str, str] = {}
    for key, role in (roles(keys) | weight_roles(keys, weights, name)).items():
        if role in found:
            raise InputError(
                f"{name}: {found[role]!r} and {key!r} may both be {role}, save one of them alone or rename the other"
            )
        found[role] = key
    if "x" not in found:
        raise InputError(
            f"{name}: there is no array 'x', only {listed(keys) or 'nothing at all'}: save the rows as x, labels as y"
        )
    if found["x"] == "arr_0" and "arr_1" in keys:
        raise InputError(
            f"{name}: the arrays are called {listed(keys)}, save them by name: numpy.savez(file, x=…, y=…)"
        )
    return {role: arrays[key] for role, key in found.items()}
