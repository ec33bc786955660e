"""Tables of what users name, and packages that import their public names when these are first used.

A new unit type, estimator, initializer, data set, penalty or optimizer is a class or function and one line in one
table, here or from outside: `dbn.sampling.CHAINS["mine"] = MyChains`.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast, final

from dbn.errors import InputError

Entry = TypeVar("Entry")


@final
class Registry(MutableMapping[str, Entry], Generic[Entry]):
    """Entries by name. An entry given as "module:name" is imported when it is first asked for, so names cost no torch.

    Asking for a name that is not there raises InputError with the nearest one.
    """

    def __init__(self, noun: str, entries: Mapping[str, Entry | str]) -> None:
        self.noun = noun
        self._entries: dict[str, Entry | str] = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise InputError(f"there is no {self.noun} {name!r}{suggestion(name, self)}")
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = cast(Entry, getattr(import_module(module), attribute))
        return entry

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default where there is none."""
        return self[name] if name in self._entries else default

    def build(self, name: str, **settings: Any) -> Any:
        """The entry called with those of the settings that it takes."""
        taken = self.parameters(name)
        return cast(Callable[..., Any], self[name])(**{key: value for key, value in settings.items() if key in taken})

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """What the entry is called with, by name."""
        return dict(inspect.signature(cast(Callable[..., Any], self[name])).parameters)


def table(place: str) -> "Registry[Any]":
    """The registry at "module:name"."""
    module, _, name = place.partition(":")
    return cast("Registry[Any]", getattr(import_module(module), name))


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
