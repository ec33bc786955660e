"""What a run was asked for: its options, and the command that repeats it."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import PurePath
from typing import Any, get_type_hints

from dbn.config import CONFIGS
from dbn.config.validation import option_name
from dbn.errors import InputError
from dbn.runs.folder import CONFIG, RunFolder

MACHINE = ("run", "device", "data_dir", "workers", "threads")
"""Options that do not change what is learned."""
MARKS = {"study": "depths", "label-model": "generative_weight", "pretrain": "estimator", "finetune": "init"}
"""By command, an option that no command behind it has."""


def kind_of(run: RunFolder, options: Mapping[str, Any]) -> str:
    """The command that made the run; InputError for none of these."""
    for verb, mark in MARKS.items():
        if mark in options:
            return verb
    raise InputError(
        f"{run.path} is no run of pretrain, label-model, finetune or study by its {CONFIG}: name the folder of one"
    )


def asked(verb: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults, the machine's apart."""
    usual = defaults(CONFIGS[verb])
    return {
        name: value
        for name, value in options.items()
        if name not in MACHINE and value is not None and value != usual.get(name)
    }


def chosen_by_data(verb: str) -> set[str]:
    """The options that are chosen by the size of the data where they are left out."""
    kind = get_type_hints(CONFIGS[verb]).get("training")
    return set(getattr(kind, "CHOSEN_BY_DATA", ()))


def defaults(kind: Any) -> dict[str, Any]:
    """The defaults of a configuration as plain data, those of its parts among them."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            found |= defaults(hints[each.name])
            part = hints[each.name]()
            found |= {name: _plain(value) for name, value in getattr(part, "resolved", dict)().items()}
        elif each.default is not MISSING:
            found[each.name] = _plain(each.default)
    return found


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def command(verb: str, options: Mapping[str, Any]) -> str:
    """The command that repeats a run in another folder, or the call of Python where its rows came from there."""
    given = asked(verb, options)
    if options.get("dataset") is None and not options.get("pretrained") and not options.get("recipe"):
        function = {"label-model": "train_label_model", "finetune": "compare"}.get(verb, verb)
        rows = "x" if verb == "pretrain" else "x, y"
        return f"dbn.{function}({', '.join([rows, *(f'{name}={value!r}' for name, value in given.items())])})"
    words = []
    for name, value in {**given, "run": f"{options['run']}-again"}.items():
        if isinstance(value, bool):
            words.append(option_name(name if value else f"no_{name}"))
        elif value is not None:
            words += [option_name(name), *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(["torch-dbn", verb, *words])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value
