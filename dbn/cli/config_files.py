"""Files of options: recipes by name, and YAML read into command-line words."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from dbn.cli.options import (
    OPTION_LIKE,
    SWITCH,
    Config,
    FromFile,
    Given,
    Option,
    build,
    check_count,
    check_known,
    options_of,
)
from dbn.config import CONFIGS
from dbn.config.common import ALIASES
from dbn.errors import InputError
from dbn.registry import suggestion
from dbn.storage.yaml_limits import CHARACTERS, check_plain

RECIPES = Path(__file__).parents[1] / "recipes"
"""Configuration files that are part of the package and found by name."""


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
        check_known(name, f"{key.value}{where}", options)
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
    check_count(name, values, option, where)
    return values
