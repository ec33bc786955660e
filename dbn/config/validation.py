"""Checks of option values, declared in the annotations of fields: InputError in one sentence that names the option."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from dbn.config.schedules import Schedule
from dbn.errors import InputError
from dbn.registry import Registry, split_call, split_sum, table

LARGEST_INTEGER, LARGEST_SEED = 10**12, 2**64 - 1
LARGEST_NUMBER = 3e38  # little more is infinite in single precision
SHOWN = 80
"""Characters of a path in an error."""


@dataclass(frozen=True)
class Choice:
    """In an annotation: the field holds names of the registry at `place`, "module:NAME".

    strict: whether other values are refused; otherwise the names are shown in help alone. parameterized: whether
    parameters may follow the name, NAME(PARAMETER=VALUE, …), which are checked where they are used. summed: whether
    names may be counted and joined, NUMBER NAME + NUMBER NAME. also: other values. apart: entries that no name means.
    """

    place: str
    strict: bool = True
    parameterized: bool = False
    summed: bool = False
    also: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def table(self) -> "Registry[Any]":
        """The registry."""
        return table(self.place)

    @property
    def names(self) -> list[str]:
        """What help and errors list."""
        return [name for name in [*self.table, *self.also] if name not in self.apart]

    def check(self, option: str, value: Any) -> None:
        """InputError for a value that is refused."""
        if value in self.also:
            return
        if self.summed and (parts := split_sum(str(value))):
            for _, part in parts:
                self.check(option, part)
            return
        if not self.parameterized:
            name = value
        elif (call := split_call(str(value))) is not None:
            name = call[0]
        else:
            raise InputError(f"{option}: expected NAME or NAME(PARAMETER=VALUE, ...), not {value!r}")
        if self.strict and name not in self.names:
            raise InputError(f"{option} must be one of {', '.join(self.names)}, not {value!r}")


@dataclass(frozen=True)
class Rule:
    """In an annotation: what every number in the field must be, in words and as a test; `Literal` values may differ."""

    wanted: str
    allowed: Callable[[float], bool]
    kind: type = Real
    most: float = LARGEST_NUMBER
    is_schedule: bool = False
    may_end_at_0: bool = False
    """Whether a line of a schedule may end at 0."""

    def check(self, option: str, value: Any) -> None:
        """InputError if the value is refused."""
        numbers: tuple[Any, ...] = (value,)
        if self.is_schedule:
            try:
                schedule = Schedule.read(value)
            except ValueError:
                wanted = f"{self.wanted}, or a schedule such as 0.1:0 or 1,3@10"
                raise InputError(f"{option} must be {wanted}, not {value!r}") from None
            numbers = schedule.values[: -1 if self.may_end_at_0 and schedule.end == 0 else None]
        for number in numbers:
            is_number = isinstance(number, self.kind) and not isinstance(value, bool)
            if not is_number or not -float("inf") < number < float("inf") or not self.allowed(number):
                raise InputError(f"{option} must be {self.wanted}, not {value!r}")
            if abs(number) > self.most:
                raise InputError(f"{option} must be at most {self.most:,}, not {value!r}")


def whole(least: int, most: int = LARGEST_INTEGER) -> Rule:
    """The rule of whole numbers."""
    return Rule(f"a whole number of at least {least}", lambda number: number >= least, Integral, most)


Natural = Annotated[int, whole(0)]
Count = Annotated[int, whole(1)]
AtLeast2 = Annotated[int, whole(2)]
Seed = Annotated[int, whole(0, LARGEST_SEED)]
NonNegative = Annotated[float, Rule("a number of at least 0", lambda number: number >= 0)]
Positive = Annotated[float, Rule("a number above 0", lambda number: number > 0)]
BelowOne = Annotated[float, Rule("at least 0 and below 1", lambda number: 0 <= number < 1)]
Between = Annotated[float, Rule("between 0 and 1", lambda number: 0 < number < 1)]

Mark = TypeVar("Mark", Choice, Rule)


def marks_of(annotation: Any, kind: type[Mark]) -> Iterator[Mark]:
    """The choices or rules anywhere in an annotation."""
    yield from (each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, kind))
    inner = (annotation.__origin__,) if hasattr(annotation, "__metadata__") else get_args(annotation)
    for each in inner:
        yield from marks_of(each, kind)


def option_name(name: str) -> str:
    """The option of a field: `batch_size` is `--batch-size`."""
    return "--" + name.replace("_", "-")


def values_of(config: Any, name: str) -> tuple[Any, ...]:
    """The values of a field that holds none (`None`), one or several."""
    value = getattr(config, name)
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def several(value: Any) -> tuple[Any, ...]:
    """The values of a sequence or array, or a single one: of 500, (500,)."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def check_fields(config: Any) -> None:
    """Make tuples of lists and single values in tuple fields; check every value against its annotation.

    A path must be one that the system can look for, whether it exists or not. A tuple is not empty unless it is by
    default.
    """
    kind: Any = type(config)
    for name, default, within, choices, rules in _checks_of(kind):
        value, option = getattr(config, name), option_name(name)
        if value is None:
            if NoneType not in within and default is not None:
                raise InputError(f"{option} needs a value")
            continue
        if any(get_origin(each) is tuple for each in within):
            object.__setattr__(config, name, tuple(value) if isinstance(value, list) else values_of(config, name))
            if getattr(config, name) == () != default:
                raise InputError(f"{option} needs at least one value")
        words = [word for each in within if get_origin(each) is Literal for word in get_args(each)]
        scalars = {each for each in within if not get_args(each)} - {NoneType, Ellipsis}
        for each in values_of(config, name):
            for choice in choices:
                choice.check(option, each)
            if words and not scalars and each not in words:
                raise InputError(f"{option} must be one of {', '.join(words)}, not {each!r}")
        for each in values_of(config, name):
            if scalars == {str} and not isinstance(each, str):
                raise InputError(f"{option} must be a word, not {each!r}")
            for rule in () if each in words else rules:
                rule.check(option, each)
            if name == "dataset" or Path in within:
                _check_path(option, str(each))


@cache
def _checks_of(kind: Any) -> list[tuple[str, Any, list[Any], tuple[Choice, ...], tuple[Rule, ...]]]:
    """Of each field of a configuration: name, default, all types within its own, choices and rules."""
    annotations, kinds = get_type_hints(kind, include_extras=True), get_type_hints(kind)
    return [
        (name, default, _flat(kinds[name]), tuple(marks_of(annotation, Choice)), tuple(marks_of(annotation, Rule)))
        for name, default in ((each.name, each.default) for each in fields(kind))
        for annotation in [annotations[name]]
    ]


def _flat(kind: Any) -> list[Any]:
    """A type, and all types within it."""
    return [kind, *(each for inner in get_args(kind) if get_origin(kind) is not Literal for each in _flat(inner))]


def _check_path(option: str, path: str) -> None:
    """InputError for a path with a zero character, a name that is too long, or a folder that may not be entered."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return  # reported where it is used
    except (OSError, ValueError) as error:
        shown = path if len(path) <= SHOWN else f"{path[:SHOWN]}…"
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {shown} cannot be looked for ({reason}): name another path") from error


def check_distinct(config: Any, *names: str) -> None:
    """No value occurs in a field twice."""
    for name in names:
        values = values_of(config, name)
        for value in values:
            if values.count(value) > 1:
                raise InputError(f"{option_name(name)} names {value} more than once")


def check_per_item(config: Any, count: int, whose: str, *names: str) -> None:
    """The fields hold one value, or `count`; `whose` says what the values belong to."""
    for name in names:
        found = len(values_of(config, name))
        if found not in (0, 1, count):
            raise InputError(f"{option_name(name)} takes one value or one {whose} ({count}), not {found}")
