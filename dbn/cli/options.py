"""Gathering options by name: from the tokens of a command line, and from a YAML file."""

import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml

from dbn.config.common import ALIASES
from dbn.config.validation import option_name
from dbn.errors import InputError
from dbn.storage.yaml_limits import CHARACTERS, check_plain

Given = dict[str, list[str]]  # an option's name, and its tokens: {"hidden": ["--hidden", "500", "500"]}


OPTION_LIKE = re.compile(r"--|-(?!inf|nan)[a-zA-Z]")  # -5 is a value


NOUNS = {int: "a whole number", float: "a number", str: "a word", Path: "a path"}


SWITCH = {"true": "--", "yes": "--", "on": "--", "false": "--no-", "no": "--no-", "off": "--no-"}


class Option(NamedTuple):
    """What reading needs to know of a field."""

    kind: Any
    required: bool = False

    @property
    def most(self) -> float:
        """How many values it takes at most."""
        if self.kind is bool:
            return 0
        kinds = (self.kind, *get_args(self.kind))
        return math.inf if any(get_origin(kind) is tuple for kind in kinds) else 1

    @property
    def expected(self) -> str:
        """Its values in words: "one of sgd, adam", "a whole number, or several"."""
        return _in_words(self.kind)


def _in_words(kind: Any) -> str:
    inner = [each for each in get_args(kind) if each not in (NoneType, Ellipsis)]
    if get_origin(kind) is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(inner)
    if get_origin(kind) is tuple:
        return f"{_in_words(inner[0])}, or several"
    if str in inner and len(inner) > 1:
        return f"{_in_words(inner[0])} or a schedule"  # a number or text: see `dbn.config.schedules`
    return " or ".join(map(_in_words, inner)) if inner else NOUNS[kind]


def options_of(config_class: type) -> dict[str, Option]:
    """Every option of a configuration and of its parts, by its name without the dashes."""
    options: dict[str, Option] = {}
    kinds = get_type_hints(config_class)
    for each in fields(config_class):
        if is_dataclass(kinds[each.name]):
            options |= options_of(kinds[each.name])
        else:
            required = each.default is MISSING and each.default_factory is MISSING
            options[option_name(each.name)[2:]] = Option(kinds[each.name], required)
    return options


def read_tokens(tokens: Sequence[str], options: dict[str, Option]) -> Given:
    """The options of a command line; one that is repeated, as it stands last."""
    given: Given = {}
    name = None
    for token in tokens:
        if OPTION_LIKE.match(token):
            key, equals, value = token.partition("=")
            name, switch = _name_of(key, options)
            given[name] = [switch, value] if equals else [switch]
        elif name is None:
            raise InputError(f"{token!r} belongs to no option: options begin with --.")
        else:
            given[name].append(token)
    for name, (_, *values) in given.items():
        _check_count(name, values, options[name])
    return given


def _name_of(key: str, options: dict[str, Option]) -> tuple[str, str]:
    """The name that a token stands for, and its proper spelling: ("resume", "--no-resume")."""
    name = key.removeprefix("--").replace("_", "-")
    positive = name.removeprefix("no-")
    name = name.removesuffix(positive) + ALIASES.get(positive, positive)
    positive = ALIASES.get(positive, positive)
    if positive != name and positive in options and options[positive].kind is bool:
        return positive, f"--{name}"
    _check_known(name, key, options)
    return name, f"--{name}"


def _check_known(name: str, spelt: str, options: dict[str, Option]) -> None:
    if name not in options:
        near = get_close_matches(name.lower(), options, n=1, cutoff=0.5)
        hint = f"did you mean {option_name(near[0])}?" if near else "see --help."
        raise InputError(f"unknown option {spelt}: {hint}")


def _check_count(name: str, values: Sequence[str], option: Option, where: str = "") -> None:
    """Refuse too many values, none, and an empty one (an unset variable of the shell)."""
    if len(values) > option.most:
        takes = f"one value, {option.expected}" if option.most else "no value"
        raise InputError(f"--{name} takes {takes}: {values[int(option.most)]!r} is too much{where}.")
    if option.most == 1 and not values:
        raise InputError(f"--{name} needs a value, {option.expected}{where}.")
    if "" in values:
        raise InputError(f"--{name} has an empty value{where}.")


def read_config_file(path: Path, options: dict[str, Option], named: str = "--config ") -> Given:
    """The options of a YAML file, a key an option; `named` is what stands before its name in an error.

    Values are taken as they are written, before YAML makes numbers of them: 1e-2, a string to YAML, is read as
    it would be on the command line.
    """
    given: Given = {}
    for key, node in _mapping(path, f"{named}{path}").value:
        where = f" in {path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"a key is no option's name{where}: write one option a line, as in `batch_size: 100`.")
        name = ALIASES.get(str(key.value), str(key.value)).replace("_", "-")
        _check_known(name, f"{key.value}{where}", options)
        if name in given:
            raise InputError(f"--{name} is given twice{where}.")
        given[name] = _tokens(name, node, options[name], where)
    return {name: tokens for name, tokens in given.items() if tokens}


def _mapping(path: Path, named: str) -> yaml.MappingNode:
    try:
        with path.open(encoding="utf-8") as file:  # which may be a pipe, and need not end
            text = file.read(CHARACTERS + 1)
        check_plain(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"{named} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{named} cannot be read: it is no UTF-8 text.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise InputError(f"{named} is no valid YAML{where}: {problem}.") from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it nests values too deep"
        raise InputError(f"{named} is no file of options: {why}.") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{named} holds no options: write one a line, as in `batch_size: 100`.")
    return root


def _tokens(name: str, node: yaml.Node, option: Option, where: str) -> list[str]:
    """The command-line tokens of a YAML value; none for null, which leaves the option out."""
    is_list = isinstance(node, yaml.SequenceNode)
    if not is_list and node.tag == "tag:yaml.org,2002:null":
        return []
    nodes = node.value if is_list else [node]
    if not all(isinstance(each, yaml.ScalarNode) for each in nodes):
        raise InputError(f"--{name} holds nested values{where}: write one value, or a plain list.")
    values = [each.value for each in nodes]
    if option.kind is bool:
        if is_list or values[0].lower() not in SWITCH:
            raise InputError(f"--{name} must be true or false{where}.")
        return [SWITCH[values[0].lower()] + name]
    if is_list and (option.most == 1 or any(map(OPTION_LIKE.match, values))):
        raise InputError(f"--{name} must be {option.expected}, not the list {values}{where}.")
    _check_count(name, values, option, where)
    return [f"--{name}", *values]
