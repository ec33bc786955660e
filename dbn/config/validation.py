"""Refusing option values that cannot work, in one sentence that names the option."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dbn.config.schedules import Schedule
from dbn.errors import InputError
from dbn.registry import Registry, table

LARGEST, LARGEST_SEED = 10**12, 2**64 - 1


LARGEST_NUMBER = 3e38
"""Little more is infinite in single precision."""


SHOWN = 80
"""Characters of a path in an error."""


@dataclass(frozen=True)
class Choice:
    """In an annotation: the field holds names of the registry at `place`, "module:NAME"."""

    place: str

    @property
    def table(self) -> "Registry[Any]":
        """The registry."""
        return table(self.place)


def choice_of(kind: Any) -> Choice | None:
    """The choice that an annotation carries, wherever in it."""
    found = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Choice)]
    return found[0] if found else next(filter(None, map(choice_of, get_args(kind))), None)


def option_name(name: str) -> str:
    """The option of a field: `batch_size` is `--batch-size`."""
    return "--" + name.replace("_", "-")


def values_of(config: Any, name: str) -> tuple[Any, ...]:
    """The values of a field that holds none (`None`), one or several."""
    value = getattr(config, name)
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def normalize_fields(config: Any) -> None:
    """Make tuples of the lists and single values in tuple fields; compare words with those that are known.

    A path must be one that the system can look for, whether something is there or not.
    """
    annotated = get_type_hints(type(config), include_extras=True)
    for name, kind in get_type_hints(type(config)).items():
        value, kinds = getattr(config, name), (kind, *get_args(kind))
        if value is None:
            if NoneType not in kinds:
                raise InputError(f"{option_name(name)} needs a value.")
        elif any(get_origin(each) is tuple for each in kinds):
            object.__setattr__(config, name, tuple(value) if isinstance(value, list) else values_of(config, name))
        elif (words := _words(kind)) and value not in words:
            raise InputError(f"{option_name(name)} must be one of {', '.join(words)}, not {value!r}.")
        if (choice := choice_of(annotated[name])) is not None:
            for each in values_of(config, name):
                if each not in choice.table:
                    known = ", ".join(choice.table)
                    raise InputError(f"{option_name(name)} must be one of {known}, not {each!r}.")
        if name == "dataset" or Path in {*kinds, *(inner for each in kinds for inner in get_args(each))}:
            for path in values_of(config, name):
                _check_path(name, str(path))


def _words(kind: Any) -> tuple[str, ...]:
    """The words of a Literal, or of a Literal or None; () for other types."""
    kinds = (
        [each for each in get_args(kind) if each is not NoneType] if get_origin(kind) in (Union, UnionType) else [kind]
    )
    return get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def _check_path(name: str, path: str) -> None:
    """InputError for a path with a zero character, a name that is too long, or a folder that may not be entered."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return  # what uses it says that
    except (OSError, ValueError) as error:
        shown = path if len(path) <= SHOWN else f"{path[:SHOWN]}…"
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option_name(name)} {shown} cannot be looked for ({reason}): name another path.") from error


def check_integer(config: Any, least: int, *names: str) -> None:
    """Every value of the fields is a whole number, at least `least`, and no larger than anything can be counted."""
    for name in names:
        for value in values_of(config, name):
            if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
                raise InputError(f"{option_name(name)} must be a whole number of at least {least}, not {value!r}.")
            largest = LARGEST_SEED if name == "seed" else LARGEST
            if int(value) > largest:
                raise InputError(f"{option_name(name)} must be at most {largest:,}, not {value!r}.")


def check_number(config: Any, name: str, wanted: str, allowed: Callable[[float], bool]) -> None:
    """Every value of the field is finite and allowed; `wanted` says in words what is."""
    for value in values_of(config, name):
        sound = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
        if not sound or not allowed(value):
            raise InputError(f"{option_name(name)} must be {wanted}, not {value!r}.")
        _check_size(name, value)


def _check_size(name: str, *values: float) -> None:
    for value in values:
        if abs(value) > LARGEST_NUMBER:
            raise InputError(f"{option_name(name)} must be at most {LARGEST_NUMBER:g}, not {value!r}.")


def check_schedule(
    config: Any, name: str, wanted: str, allowed: Callable[[float], bool], *, may_end_at_0: bool = False
) -> None:
    """Every value of the field is a number or a `Schedule` of numbers that are allowed."""
    for written in values_of(config, name):
        try:
            schedule = Schedule.read(written)
        except ValueError:
            raise InputError(
                f"{option_name(name)} must be {wanted}, or a schedule such as 0.1:0 or 1,3@10, not {written!r}."
            ) from None
        values = [value for _, value in schedule.steps] if may_end_at_0 and schedule.end == 0 else schedule.values
        sound = not isinstance(written, bool) and all(map(math.isfinite, values))
        if not sound or not all(map(allowed, values)):
            raise InputError(f"{option_name(name)} must be {wanted}, not {written!r}.")
        _check_size(name, *values)


def check_not_empty(config: Any, *names: str) -> None:
    """The fields hold at least one value, if any is given."""
    for name in names:
        if getattr(config, name) == ():
            raise InputError(f"{option_name(name)} needs at least one value.")


def check_distinct(config: Any, *names: str) -> None:
    """No value stands in a field twice."""
    for name in names:
        values = values_of(config, name)
        for value in values:
            if values.count(value) > 1:
                raise InputError(f"{option_name(name)} names {value} more than once.")


def check_per_item(config: Any, count: int, whose: str, *names: str) -> None:
    """The fields hold one value, or `count`; `whose` says what the values belong to."""
    for name in names:
        found = len(values_of(config, name))
        if found not in (0, 1, count):
            raise InputError(f"{option_name(name)} takes one value or one {whose} ({count}), not {found}.")


def check_training(config: Any) -> None:
    """The rules that pre-training and fine-tuning share."""
    normalize_fields(config)
    check_not_empty(config, "epochs", "learning_rate", "momentum")
    check_integer(config, 1, "batch_size", "epochs")
    check_integer(config, 0, "seed")
    check_number(config, "weight_decay", "a number of at least 0", lambda decay: decay >= 0)
    optimizers = table("dbn.training:OPTIMIZERS")
    if config.momentum is not None and "momentum" not in optimizers.parameters(config.optimizer):
        takers = [name for name in optimizers if "momentum" in optimizers.parameters(name)]
        raise InputError(
            f"--momentum does not go with --optimizer {config.optimizer}: leave it out, or use {' or '.join(takers)}."
        )


def check_device(device: str) -> None:
    """A device's name has a shape that torch knows; whether the machine has it is not asked here."""
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise InputError(f"--device must be auto, cpu, cuda, cuda:N or mps, not {device!r}.")


def check_output(output: Path | None, *inputs: Path | None) -> None:
    """What is written does not take the place of what is read, by whatever name."""
    for path in filter(None, inputs):
        if output and output.is_file() and path.is_file() and output.samefile(path):
            raise InputError(f"--output {output} is what is read, and would be replaced: name another file.")
