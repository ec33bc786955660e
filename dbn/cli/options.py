"""Options by name: from the tokens of a command line or from a YAML file to the fields of a configuration."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from dbn.config import CONFIGS
from dbn.config.common import ALIASES
from dbn.config.validation import Choice, marks_of, option_name
from dbn.errors import OPTION, InputError
from dbn.registry import suggestion
from dbn.storage.yaml_limits import CHARACTERS, check_plain

Config = TypeVar("Config")
Given = dict[str, list[str]]  # an option's name, and its values as they are written: {"hidden": ["500", "500"]}


class FromFile(list[str]):
    """The values of an option in a file."""

    where = ""
    """The file and line, as the end of an error."""


OPTION_LIKE = re.compile(r"--|-(?!inf|nan)[a-zA-Z]")  # -5 is a value
NOUNS = {int: "a whole number", float: "a number", str: "a word", Path: "a path"}
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
RECIPES = Path(__file__).parents[1] / "recipes"
"""Configuration files that are part of the package and found by name."""


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
            return f"one of {', '.join(self.choice.table)}{several}"
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
                _check_count(name, given[name], options[name])
                given[name] = ["true" if is_on else "false"]
        elif name is not None and options[name].kind is not bool:
            given[name].append(token)
        elif positional:
            given[positional.pop(0)] = [token]
        elif name is not None:
            _check_count(name, [token], options[name])
        else:
            raise InputError(f"unexpected argument {token!r}: options begin with --")
    for name, values in given.items():
        if options[name].kind is not bool:
            _check_count(name, values, options[name])
    return given


def _name_of(key: str, options: Mapping[str, Option]) -> tuple[str, bool]:
    """The name of an option, and False for a switch that is turned off: ("resume", False) for --no-resume."""
    name = key.removeprefix("--").replace("_", "-")
    positive = name.removeprefix("no-")
    positive = ALIASES.get(positive, positive)
    if name.startswith("no-") and positive in options and options[positive].kind is bool:
        return positive, False
    name = ALIASES.get(name, name)
    _check_known(name, key, options)
    return name, True


def _check_known(name: str, written: str, options: Mapping[str, Option]) -> None:
    if name not in options:
        hint = suggestion(name, options, otherwise=": see --help", show=lambda near: option_name(near))
        raise InputError(f"unknown option {written}{hint}")


def _check_count(name: str, values: Sequence[str], option: Option, where: str = "") -> None:
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


def load_config(config_class: type[Config], name: Path, named: str) -> Config:
    """The configuration of a file or recipe alone; `named` is the option that named it."""
    return build(config_class, read_config_file(find_config(name, named), options_of(config_class), named))


def find_config(name: Path, named: str = "--config ") -> Path:
    """The file of that path, or else the recipe of that name; InputError if there is neither."""
    recipe = RECIPES / f"{name.name.removesuffix('.yaml')}.yaml"
    # The recipes were files of the checkout once, and the options of a study may name them so.
    is_recipe = name.parent == Path() or name.parts[-3:-1] == ("scripts", "recipes")
    if not os.path.isfile(name) and is_recipe and os.path.isfile(recipe):  # which no name makes raise
        return recipe
    if not os.path.exists(name) and name.parent == Path():
        hint = suggestion(name.stem, recipe_names(), otherwise=": torch-dbn recipes lists the recipes")
        raise InputError(f"{named}{name} is neither a file nor a recipe{hint}")
    return name


def recipe_names() -> list[str]:
    """The names that `--config` finds without a path."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_config_file(path: Path, options: Mapping[str, Option], named: str = "--config ") -> Given:
    """The options of a YAML file, one per key; `named` is what stands before its name in an error.

    Values are taken as they are written, before YAML makes numbers of them: 1e-2, a string to YAML, is read as
    it would be on the command line.
    """
    given: Given = {}
    mapping = read_mapping(path, f"{named}{path}")
    names = option_names(mapping)
    other = None if names <= options.keys() else command_of(names)
    if other:
        this = command_of(set(options)) or "this command"
        raise InputError(f"{named}{path} holds options of torch-dbn {other}, not of {this}: name another file")
    for key, node in mapping.value:
        where = f" in {path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"a key is not the name of an option{where}: write one per line, as in `batch_size: 100`")
        name = ALIASES.get(str(key.value), str(key.value)).replace("_", "-")
        _check_known(name, f"{key.value}{where}", options)
        if name in given:
            raise InputError(f"--{name} is given twice{where}")
        if node.tag == "tag:yaml.org,2002:null" and isinstance(node, yaml.ScalarNode):
            continue  # null leaves the option out
        given[name] = FromFile(_written(name, node, options[name], where))
        given[name].where = where  # type: ignore[attr-defined]
    return given


def option_names(mapping: yaml.MappingNode) -> set[str]:
    """The options that a file of them names."""
    keys = [str(key.value) for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)]
    return {ALIASES.get(key, key).replace("_", "-") for key in keys}


def command_of(names: set[str]) -> str | None:
    """The command that has all of these options and the fewest others."""
    sizes = {verb: len(options_of(kind)) for verb, kind in CONFIGS.items() if names <= options_of(kind).keys()}
    return min(sizes, key=lambda verb: sizes[verb], default=None)


def read_mapping(path: Path, named: str) -> yaml.MappingNode:
    """The content of a YAML file of options; InputError for any other."""
    try:
        with path.open(encoding="utf-8") as file:  # which may be a pipe, and need not end
            text = file.read(CHARACTERS + 1)
        check_plain(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"{named} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{named} cannot be read: it is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise InputError(f"{named} is not valid YAML{where}: {problem}") from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it nests values too deep"
        raise InputError(f"{named} is not a file of options: {why}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{named} holds no options: write one per line, as in `batch_size: 100`")
    return root


def _written(name: str, node: yaml.Node, option: Option, where: str) -> list[str]:
    """The values of a YAML node, as they are written."""
    is_list = isinstance(node, yaml.SequenceNode)
    nodes = node.value if is_list else [node]
    if not all(isinstance(each, yaml.ScalarNode) for each in nodes):
        raise InputError(f"--{name} holds nested values{where}: write one value, or a plain list")
    values = [each.value for each in nodes]
    if option.kind is bool:
        if is_list or values[0].lower() not in SWITCH:
            raise InputError(f"--{name} must be true or false{where}")
        return [values[0].lower()]
    if is_list and (option.most == 1 or any(map(OPTION_LIKE.match, values))):
        raise InputError(f"--{name} must be {option.expected}, not the list {values}{where}")
    _check_count(name, values, option, where)
    return values
