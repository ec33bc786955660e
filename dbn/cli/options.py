"""Options by name: from the tokens of a command line or from a YAML file to the fields of a configuration."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from dbn.config.common import ALIASES
from dbn.config.validation import Choice, marks_of, option_name
from dbn.errors import OPTION, InputError
from dbn.registry import suggestion

Config = TypeVar("Config")
Given = dict[str, list[str]]  # an option's name, and its values as they are written: {"hidden": ["500", "500"]}


class FromFile(list[str]):
    """The values of an option in a file."""

    where = ""
    """The file and line, as the end of an error."""


OPTION_LIKE = re.compile(r"--|-(?!inf|nan)[a-zA-Z]")  # -5 is a value
NOUNS = {int: "a whole number", float: "a number", str: "a word", Path: "a path"}
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Option(NamedTuple):
    """A field of a configuration."""

    kind: Any
    default: Any = MISSING
    choice: Choice | None = None
    is_positional: bool = False

    @property
    def kinds(self) -> list[Any]:
        """The types that a value may have, tried in this order: int, float, str, Path, bool or a `Literal`."""
        return _flat(self.kind)

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def most(self) -> float:
        """The largest number of values."""
        if self.kind is bool:
            return 0
        return math.inf if any(get_origin(kind) is tuple for kind in (self.kind, *get_args(self.kind))) else 1

    @property
    def expected(self) -> str:
        """Its values in words: "one of sgd, adam", "a whole number, or several"."""
        several = ", or several" if self.most > 1 else ""
        if self.choice and self.choice.strict:
            return f"one of {', '.join(self.choice.names)}{several}"
        words = ["a schedule" if kind is str and len(self.kinds) > 1 else _in_words(kind) for kind in self.kinds]
        return " or ".join(words) + several


def _flat(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal or not get_args(kind):
        return [] if kind in (NoneType, Ellipsis) else [kind]
    return [each for inner in get_args(kind) for each in _flat(inner)]


def _in_words(kind: Any) -> str:
    names = get_args(kind)
    return ("one of " if len(names) > 1 else "") + ", ".join(names) if names else NOUNS[kind]


def parts_of(config_class: type) -> dict[str, type]:
    """The fields of a configuration that are configurations themselves."""
    return {
        name: kind
        for name, kind in get_type_hints(config_class).items()
        if isinstance(kind, type) and is_dataclass(kind)
    }


def own_options(config_class: type) -> dict[str, Option]:
    """The options of a configuration without its parts; those of a base come after those of the class itself."""
    kinds, annotated = get_type_hints(config_class), get_type_hints(config_class, include_extras=True)
    known: dict[str, Field[Any]] = {each.name: each for each in fields(config_class)}
    names = dict.fromkeys(name for base in config_class.__mro__ for name in vars(base).get("__annotations__", ()))
    return {
        name.replace("_", "-"): Option(
            kinds[name],
            known[name].default,
            next(marks_of(annotated[name], Choice), None),
            "positional" in known[name].metadata,
        )
        for name in names
        # A configuration may lack an option of its base: it has the type None.
        if name in known and not is_dataclass(kinds[name]) and kinds[name] is not NoneType
    }


def options_of(config_class: type) -> dict[str, Option]:
    """Every option of a configuration and of its parts, by its name without the dashes."""
    options = own_options(config_class)
    for part in parts_of(config_class).values():
        options |= options_of(part)
    return options


def build(config_class: type[Config], given: Given) -> Config:
    """The configuration of the given options, its parts built likewise; errors end with the file and line."""
    try:
        return _built(config_class, given)
    except InputError as error:
        option = OPTION.match(str(error))
        values = given.get(option[1]) if option else None
        if option is None or not isinstance(values, FromFile):
            raise
        raise InputError(f"{error}{values.where}: change it there, or give --{option[1]}") from error


def _built(config_class: type[Config], given: Given) -> Config:
    made: dict[str, Any] = {name: _built(part, given) for name, part in parts_of(config_class).items()}
    for name, option in own_options(config_class).items():
        if name in given:
            made[name.replace("-", "_")] = _converted(name, given[name], option)
        elif option.required:
            raise InputError(f"{option_name(name)} is required")
    return config_class(**made)


def _converted(name: str, written: Sequence[str], option: Option) -> Any:
    if option.kind is bool:
        return SWITCH[written[0]]
    try:
        values = tuple(_value(word, option.kinds) for word in written)
    except ValueError:
        raise InputError(f"{_shown(name, option)} must be {option.expected}, not {' '.join(written)!r}") from None
    return values if option.most > 1 else values[0]


def _shown(name: str, option: Option) -> str:
    """--hidden, or SHELL for what has no dashes."""
    return name.upper() if option.is_positional else f"--{name}"


def _value(word: str, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            if word in get_args(kind):
                return word
            if get_origin(kind) is not Literal:
                return kind(word)
        except ValueError:
            continue
    raise ValueError(word)


def read_tokens(tokens: Sequence[str], options: Mapping[str, Option]) -> Given:
    """The options of a command line; the last occurrence of a repeated one."""
    positional = [name for name, option in options.items() if option.is_positional]
    given: Given = {}
    name = None
    for token in tokens:
        if OPTION_LIKE.match(token):
            key, equals, value = token.partition("=")
            name, is_on = _name_of(key, options)
            given[name] = [value] if equals else []
            if options[name].kind is bool:
                check_count(name, given[name], options[name])
                given[name] = ["true" if is_on else "false"]
        elif name is not None and options[name].kind is not bool:
            given[name].append(token)
        elif positional:
            place = positional[0] if options[positional[0]].most > 1 else positional.pop(0)
            given.setdefault(place, []).append(token)
        elif name is not None:
            check_count(name, [token], options[name])
        else:
            raise InputError(f"unexpected argument {token!r}: options begin with --")
    for name, values in given.items():
        if options[name].kind is not bool:
            check_count(name, values, options[name])
    return given


def _name_of(key: str, options: Mapping[str, Option]) -> tuple[str, bool]:
    """The name of an option, and False for a switch that is turned off: ("resume", False) for --no-resume."""
    name = key.removeprefix("--").replace("_", "-")
    positive = name.removeprefix("no-")
    positive = ALIASES.get(positive, positive)
    if name.startswith("no-") and positive in options and options[positive].kind is bool:
        return positive, False
    name = ALIASES.get(name, name)
    check_known(name, key, options)
    return name, True


def check_known(name: str, written: str, options: Mapping[str, Option]) -> None:
    """InputError for a name that belongs to no option; `written` is how it stands in the command or file."""
    if name not in options:
        hint = suggestion(name, options, otherwise=": see --help", show=lambda near: option_name(near))
        raise InputError(f"unknown option {written}{hint}")


def check_count(name: str, values: Sequence[str], option: Option, where: str = "") -> None:
    """InputError for too many values, none, and an empty one (an unset variable of the shell)."""
    if len(values) > option.most:
        takes = f"one value, {option.expected}" if option.most else "no value"
        raise InputError(
            f"{_shown(name, option)} takes {takes}: got an extra value {values[int(option.most)]!r}{where}"
        )
    if option.most == 1 and not values:
        raise InputError(f"--{name} needs a value, {option.expected}{where}")
    if "" in values:
        raise InputError(f"--{name} has an empty value{where}")
