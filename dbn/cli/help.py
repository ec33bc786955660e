"""Help texts: argparse parsers made from the options and the docstrings under their fields."""

import argparse
import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from dbn.cli.options import Option, own_options, parts_of

METAVARS = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}


class Formatter(argparse.HelpFormatter):
    """Lines that do not break within --max-norm."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def usage(config_class: type) -> str:
    """The first line of a help text."""
    own = own_options(config_class).items()
    return " ".join(["%(prog)s", *(f"[{name.upper()}]" for name, option in own if option.is_positional), "[OPTIONS]"])


def add_options(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Give a parser the options of a configuration, a group for each of its parts."""
    if not any(option.is_positional for option in own_options(config_class).values()):  # which are short to type
        parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG)
    _add_group(parser.add_argument_group("The command"), config_class)
    for part in parts_of(config_class).values():
        _add_group(parser.add_argument_group(str(part.__doc__).rstrip(".")), part)


CONFIG = "recipe or YAML file of options, named as here; options on the command line win (default: none)"


def _add_group(group: Any, config_class: type) -> None:
    docs = field_docs(config_class)
    for name, option in own_options(config_class).items():
        text = docs[name.replace("-", "_")]
        if option.choice and not option.choice.strict:
            text += f" Names: {', '.join(option.choice.names)}."
        settings: dict[str, Any] = {"help": f"{text}{_default_text(option, text)}".replace("%", "%%")}
        if option.is_positional:
            group.add_argument(name, nargs="*" if option.most > 1 else "?", choices=_choices(option), **settings)
        elif option.kind is bool:
            group.add_argument(
                f"--{name}", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, **settings
            )
        else:
            settings |= {"nargs": "*" if option.most > 1 else None, "type": Path if Path in option.kinds else None}
            group.add_argument(f"--{name}", choices=_choices(option), metavar=_metavar(option), **settings)


def _default_text(option: Option, text: str) -> str:
    if option.required:
        return " (required)"
    if "(default:" in text:
        return ""
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    shown = " ".join(map(str, values))
    return f" (default: {shown.lower() if option.kind is bool else shown})"


def _choices(option: Option) -> list[str] | None:
    """All values that the option takes, where they can be listed."""
    if option.choice and option.choice.strict:
        return option.choice.names
    listed = [name for kind in option.kinds for name in get_args(kind)]
    return listed if listed and all(map(get_args, option.kinds)) else None


def _metavar(option: Option) -> str:
    if choices := _choices(option):
        return "{" + ",".join(choices) + "}"
    names = [",".join(get_args(kind)) or METAVARS[kind] for kind in option.kinds]
    # A number or a text: the text is a schedule.
    return "|".join("SCHEDULE" if name == "NAME" and {*names} != {"NAME"} else name for name in dict.fromkeys(names))


def field_docs(config_class: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, or under the same field of a base."""
    docs: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if is_dataclass(base):
            (tree,) = ast.parse(inspect.getsource(base)).body
            for node, text in pairwise(tree.body):  # type: ignore[attr-defined]
                if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr):
                    docs[ast.unparse(node.target)] = " ".join(ast.literal_eval(text.value).split())
    return docs
