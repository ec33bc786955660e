"""Schemas of plain data: what a file's fields are called, their types, ranges and lengths, in tables that are checked
where the file is read.

A schema is a rule; a record `{name: schema}`, where "name?" may be left out and "*" stands for all other fields; a list
`[schema]` of any length; a list `(schema, …)` of that length; or an `Either` of them. Fields that a record does not
name are any `TREE`: newer files have more of them.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from dbn.errors import InputError, shortened

Schema = Any
LARGEST = sys.float_info.max
"""Whole numbers beyond are no floats."""
MOST = 10**12
"""Of a count."""


class Rule(NamedTuple):
    """What a value must be, in words and as a test that takes a value of any type."""

    wanted: str
    allows: Callable[[Any], bool]


class Either(NamedTuple):
    """Any of several schemas; the last is the one that errors are about."""

    schemas: tuple[Schema, ...]


class Mismatch(InputError):
    """A field that is not as its schema says: which, what it holds, and what is wanted."""


def numbers(wanted: str, allowed: Callable[[float], bool] = lambda number: True) -> Rule:
    """The rule of finite numbers."""
    return Rule(wanted, lambda value: type(value) in (int, float) and -LARGEST <= value <= LARGEST and allowed(value))


def whole(least: int, most: int = MOST) -> Rule:
    """The rule of whole numbers."""
    wanted = f"a whole number from {least} to {most:,}" if most < MOST else f"a whole number of at least {least}"
    return Rule(wanted, lambda value: type(value) is int and least <= value <= most)


def among(*values: Any) -> Rule:
    """The rule of these values alone."""
    wanted = ", ".join(map(repr, values))
    return Rule(f"one of {wanted}", lambda value: any(type(value) is type(each) and value == each for each in values))


def maybe(schema: Schema) -> Schema:
    """None, or what the schema says."""
    if isinstance(schema, Rule):
        return Rule(schema.wanted, lambda value: value is None or schema.allows(value))
    return Either((NOTHING, schema))


def _is_text(value: Any, errors: str = "strict") -> bool:
    try:
        return type(value) is str and bool(value.encode(errors=errors) or True)
    except UnicodeEncodeError:  # half of a surrogate pair, which nothing can write
        return False


def _is_name(value: Any) -> bool:
    return _is_text(value, "surrogateescape")


def _is_tree(value: Any, depth: int = 20) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_text(name) and _is_tree(each, depth - 1) for name, each in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_tree(each, depth - 1) for each in value)
    return value is None or type(value) is bool or NUMBER.allows(value) or _is_name(value)


NOTHING = Rule("null", lambda value: value is None)
TEXT = Rule("text", _is_text)
NAME = Rule("text", _is_name)
"""The same with bytes of file names that are no text."""
FLAG = Rule("true or false", lambda value: type(value) is bool)
NUMBER = numbers("a finite number")
POSITIVE = numbers("a number from 1e-38 to 3e38", lambda number: 1e-38 <= number <= 3e38)
"""Of single precision, which it neither exceeds nor vanishes in."""
NATURAL = numbers("a number of at least 0", lambda number: number >= 0)
COUNT, SIZE = whole(0), whole(1)
TREE = Rule("text, finite numbers, or lists and records of such", _is_tree)
ANY: Schema = {"*": TREE}
PLAIN: Schema = Either((NOTHING, FLAG, NUMBER, TEXT))
"""Anything that is no list or record."""


def check(value: Any, schema: Schema, where: str = "") -> None:
    """`Mismatch` for the first field that is not as the schema says; `where` is its path."""
    for found, wanted, place in _mismatches(value, schema, where):
        raise Mismatch(
            f"{place or 'the whole'} is {in_words(found)}, not {wanted}" if wanted else f"{place} is missing"
        )


def _mismatches(value: Any, schema: Schema, where: str) -> Iterator[tuple[Any, str, str]]:
    """What was found, what is wanted ("" for what is missing) and the path of all that is not as the schema says."""
    match schema:
        case Rule(wanted, allows):
            if not allows(value):
                yield value, wanted, where
        case Either(schemas):
            if all(next(_mismatches(value, each, where), None) for each in schemas):
                yield from _mismatches(value, schemas[-1], where)
        case dict():
            yield from _of_record(value, schema, where)
        case [each] if isinstance(schema, list):
            if type(value) is not list:
                yield value, "a list", where
                return
            for place, item in enumerate(value):
                if not _passes(item, each):
                    yield from _mismatches(item, each, f"{where}[{place}]")
        case tuple():
            if type(value) not in (list, tuple) or len(value) != len(schema):
                yield value, f"a list of {len(schema)}", where
                return
            for place, (item, each) in enumerate(zip(value, schema, strict=True)):
                yield from _mismatches(item, each, f"{where}[{place}]")


def _passes(value: Any, schema: Schema) -> bool:
    """Whether a rule allows the value: most do, and need no path."""
    if isinstance(schema, Either):
        return any(_passes(value, each) for each in schema.schemas)
    return isinstance(schema, Rule) and schema.allows(value)


def _of_record(value: Any, schema: Mapping[str, Schema], where: str) -> Iterator[tuple[Any, str, str]]:
    if not isinstance(value, dict):
        yield value, "a record", where
        return
    for key in schema:
        name = key.removesuffix("?")
        if name in value:
            yield from _mismatches(value[name], schema[key], f"{where}.{name}".lstrip("."))
        elif name == key != "*":
            yield None, "", f"{where}.{name}".lstrip(".")
    others, known = schema.get("*", TREE), {key.removesuffix("?") for key in schema}
    for name in value:
        if not _is_text(name):
            yield name, "the name of a field", where
        elif name not in known and not _passes(value[name], others):
            yield from _mismatches(value[name], others, f"{where}.{name[:60]}".lstrip("."))


def in_words(value: Any) -> str:
    """A value in an error, short whatever it is."""
    if isinstance(value, dict | list | tuple):
        return f"{'a record' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > LARGEST:
        return "a number beyond all floats"
    return "null" if value is None else shortened(value) if isinstance(value, str) else repr(value)[:60]


def reason(error: Exception) -> str:
    """What follows a sentence on a whole file: the field that an error is about, if it is a `Mismatch`."""
    return f", as {error}" if isinstance(error, Mismatch) else ""
