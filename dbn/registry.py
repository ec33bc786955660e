"""Tables of what users name, and packages that import their public names when these are first used.

A new unit type, estimator, initializer, data set, penalty or optimizer is a class or function and one line in one
table, here or from outside: `dbn.sampling.CHAINS["mine"] = MyChains`.
"""

import ast
import inspect
import math
import re
import sys
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast, final

from dbn.errors import InputError

Entry = TypeVar("Entry")

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@final
class Registry(UserDict[str, Entry]):
    """Entries by name. An entry given as "module:name" is imported when it is first asked for, so names cost no torch.

    Asking for a name that is not there raises InputError with the nearest one.
    """

    def __init__(self, noun: str, entries: Mapping[str, Entry | str]) -> None:
        super().__init__(cast(Mapping[str, Entry], entries))
        self.noun = noun

    def __getitem__(self, name: str) -> Entry:
        if name not in self.data:
            raise InputError(f"there is no {self.noun} {name!r}{suggestion(name, self)}")
        if isinstance(self.data[name], str):
            self.data[name] = _imported(str(self.data[name]))
        return self.data[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default where there is none."""
        return self[name] if name in self.data else default

    def build(self, name: str, **settings: Any) -> Any:
        """The entry called with those of the settings that it takes."""
        taken = self.parameters(name)
        return cast(Callable[..., Any], self[name])(**{key: value for key, value in settings.items() if key in taken})

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """What the entry is called with, by name."""
        return dict(_signature(cast(Callable[..., Any], self[name])).parameters)


_signature = cache(inspect.signature)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def table(place: str) -> "Registry[Any]":
    """The registry at "module:name"."""
    return cast("Registry[Any]", _imported(place))


def split_call(text: str) -> tuple[str, str | None] | None:
    """The name in NAME or NAME(…), and what stands between the parentheses, None without them; None for other text.

    >>> split_call("constant(value=0.1)"), split_call("zeros"), split_call("zeros)")
    (('constant', 'value=0.1'), ('zeros', None), None)
    """
    match = re.fullmatch(r"([^()]*)(?:\(([^()]*)\))?", "".join(text.split()))
    return match and (match[1], match[2])


def split_sum(text: str) -> list[tuple[int, str]] | None:
    """The numbers and names in NUMBER NAME + NUMBER NAME; None for other text.

    >>> split_sum("3 bernoulli + 2 gaussian"), split_sum("gaussian")
    ([(3, 'bernoulli'), (2, 'gaussian')], None)
    """
    found = [re.fullmatch(r"\s*([1-9][0-9]*)\s+(\S.*?)\s*", part) for part in text.split("+")]
    return [(int(each[1]), each[2]) for each in found if each] if all(found) else None


class NumberRule(NamedTuple):
    """The values of a parameter, in words and as a test."""

    wanted: str
    allowed: Callable[[float], bool]


FINITE = NumberRule("a finite number", math.isfinite)


def read_parameters(
    name: str, inside: str | None, known: Mapping[str, inspect.Parameter], rules: Mapping[str, NumberRule]
) -> dict[str, float]:
    """The numbers in `inside`, what stands between the parentheses of NAME(PARAMETER=VALUE,…), None without them.

    Without a rule of its own a parameter is finite. InputError for a parameter that is not `known`, missing or given
    twice, and for a value that is not a number or not allowed.
    """
    if inside is not None and not known:
        raise InputError(f"{name} has no parameters: leave the parentheses out")
    found: dict[str, float] = {}
    for part in () if inside is None else inside.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not a parameter of {name}: write NAME=VALUE, with {_joined(known)}")
        if key not in known:
            raise InputError(f"{name} has no parameter {key!r}: it has {_joined(known)}")
        if key in found:
            raise InputError(f"{name} has {key} twice: keep one")
        wanted, allowed = rules.get(key, FINITE)
        if not NUMBER.fullmatch(value) or not allowed(float(value)):
            raise InputError(f"{key} of {name} must be {wanted}, not {value!r}")
        found[key] = float(value)
    if missing := [key for key, each in known.items() if each.default is each.empty and key not in found]:
        raise InputError(f"{name} needs {_joined(missing)}: write {name}({missing[0]}=VALUE)")
    return found


def _joined(names: Iterable[str]) -> str:
    *first, last = names
    return " and ".join(filter(None, [", ".join(first), last]))


def suggestion(name: str, known: Iterable[str], otherwise: str | None = None, show: Callable[[str], str] = repr) -> str:
    """What follows an unknown name: ", did you mean 'x'?", or else `otherwise`, or else what there is."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if near:
        return f", did you mean {show(near[0])}?"
    return f": choose from {', '.join(names)}" if otherwise is None else otherwise


def check_options(function: Callable[..., Any], given: Iterable[str], known: Iterable[str]) -> None:
    """InputError for a keyword option that is not `known`, with the nearest of them or of the function's arguments."""
    names = [*known, *(name for name in inspect.signature(function).parameters if name != "options")]
    for name in given:
        if name not in names:
            raise InputError(f"dbn.{function.__name__} has no option {name!r}{suggestion(name, names)}")


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package: the names that stand in its `if TYPE_CHECKING:` block.

    So each public name stands once, for readers, editors and type checkers, and is imported when it is first used.
    """
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    blocks = [node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}
    assigned = [target.id for node in body if isinstance(node, ast.AnnAssign) for target in [node.target]
                if isinstance(target, ast.Name) and target.id.isupper()]  # fmt: skip
    names = sorted({*homes, *assigned})

    class Face(ModuleType):
        """A submodule does not hide the public name that it shares, as `dbn.finetuning.compare`."""

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Face

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:  # a package within
            return import_module(f"{package}.{name}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: names, names
