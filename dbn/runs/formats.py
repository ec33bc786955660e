"""The formats of dbn's files: what the fields of each are, checked once, where a file is read.

What passes can be used by every command. Fields that earlier versions did not write may be left out.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dbn.models.rbm import LARGEST
from dbn.storage.schema import (
    ANY,
    COUNT,
    FLAG,
    NAME,
    NATURAL,
    NUMBER,
    PLAIN,
    POSITIVE,
    SIZE,
    TEXT,
    Either,
    Mismatch,
    Rule,
    Schema,
    among,
    check,
    in_words,
    maybe,
    numbers,
    whole,
)
from dbn.tasks import TASKS

Relation = tuple[str, str, bool]
"""A field, what it must be, and whether it is."""
ARM_NAME = re.compile(r"[\w-]+(\([\w=,.+-]*\))?(:\w+)?")

SETTING = numbers("a number that single precision has", lambda number: abs(number) <= 2**24)
UNITS = {"kind": TEXT, "size": SIZE, "*": Either((TEXT, SETTING))}
CODES = Either((among(0), whole(2)))
LIMITS = (maybe(NUMBER), maybe(NUMBER))
SCALING = {
    "divisor": POSITIVE,
    "stored?": among("bytes", "floats"),
    "columns?": [TEXT],
    "codes?": Either((whole(2), [CODES])),
    "table?": [{"kind": TEXT, "categories": [TEXT]}],
    "weight_column?": TEXT,
    "missing?": among("gibbs", "absent"),
    "values?": (NUMBER, NUMBER),
    "limits?": Either((LIMITS, [LIMITS])),
}
"""`Scaling.provenance`, and the divisor."""
SPREAD = numbers("a number above 0", lambda number: number > 0)
STANDARDIZED = SCALING | {"shift": maybe([NUMBER]), "spread": maybe([SPREAD])}
"""`Scaling.description`."""
IMAGE_SHAPE = maybe((Either((among(1), among(3))), SIZE, SIZE))
STACK = {"units": [UNITS], "standardised": FLAG, "image_shape": IMAGE_SHAPE} | SCALING
LABELS = {
    "layers": [(UNITS, UNITS)],
    "classes": [TEXT],
    "image_shape": IMAGE_SHAPE,
    "generative?": FLAG,
    "up_down?": FLAG,
} | STANDARDIZED
NETWORK = {
    "sizes": [SIZE],
    "activation": Either(([TEXT], TEXT)),
    "normalise?": FLAG,
    "task?": TEXT,
} | STANDARDIZED

ENDS = (maybe(NUMBER), maybe(NUMBER))
"""Of an interval; infinite ones are written as null."""
VERSIONS_OF: Schema = {"format?": COUNT, "*": maybe(TEXT)}
"""versions.json."""
LAYER_RECORD: Schema = {"layer": SIZE, "epoch": SIZE, "*": maybe(NUMBER)}
"""A line of metrics.jsonl of pre-training."""
FIT_RECORD: Schema = {
    "arm": TEXT,
    "learning_rate": NUMBER,
    "seed": COUNT,
    "stage": among("tune", "refit"),
    "epoch": SIZE,
    "*": maybe(NUMBER),
}
"""A line of metrics.jsonl of fine-tuning."""
ARM: Schema = {
    "test_error": [maybe(NUMBER)],
    "mean": maybe(NUMBER),
    "ci95": maybe(NUMBER),
    "valid_error": [maybe(NUMBER)],
    "learning_rate": NUMBER,
    "activation": TEXT,
    "normalise": FLAG,
    "best_epoch": [SIZE],
    "diverged": COUNT,
    "one_class?": COUNT,
    "seconds": [NATURAL],
    "test_balanced_error?": [maybe(NUMBER)],
    "test_log_loss?": [maybe(NUMBER)],
    "recall?": [maybe(NUMBER)],
    "precision?": [maybe(NUMBER)],
    "confusion?": [[COUNT]],
}
APART: Schema = {"difference": maybe(NUMBER), "p": maybe(NUMBER)}
COMPARISON: Schema = {
    "dataset": NAME,
    "labels": COUNT,
    "valid_labels": SIZE,
    "refit": FLAG,
    "pseudo_labels?": TEXT,
    "seeds": [COUNT],
    "stacks": COUNT,
    "idle_layers?": [SIZE],
    "test_examples?": SIZE,
    "task?": TEXT,
    "classes?": [TEXT],
    "targets?": [TEXT],
    "support?": [COUNT],
    "arms": {"*": ARM},
    "comparison": maybe({"best": TEXT, "next": TEXT} | APART),
    "dbn_against?": {"*": {"dbn": TEXT, "other": TEXT} | APART},
    "records?": [{"seed": COUNT, "test_error": maybe(NUMBER), "learning_rate": NUMBER, "diverged": FLAG, "*": PLAIN}],
}
"""result.json of fine-tuning; of an arm of a study with its records."""
MEASURED: Schema = {"mean": NUMBER, "standard_error": maybe(NUMBER), "interval?": ENDS}
RUN: Schema = {
    "mean": NUMBER,
    "log_ratio": NUMBER,
    "log_ratio_interval": ENDS,
    "effective_sample_size": NUMBER,
    "start_autocorrelation": NUMBER,
}
ESTIMATE: Schema = {"log_z": NUMBER, "log_z_interval": ENDS, "effective_sample_size": NUMBER}
PART: Schema = {"rows": COUNT, "layers": [MEASURED]}
EVALUATION: Schema = {
    "log_z": NUMBER,
    "units": [UNITS],
    "origin": [NAME],
    "seed": COUNT,
    "exact_possible": FLAG,
    "method": among("exact", "ais"),
    "layers": [
        ESTIMATE | {"effective_sample_size": maybe(NUMBER), "reverse": {"*": ESTIMATE | {"difference": NUMBER}}}
    ],
    "parts": {"test": PART, "*": PART},
    "gains": [MEASURED | {"annealed": maybe(MEASURED | {"interval": ENDS, "forward": RUN, "reverse": RUN})}],
    "pseudo_likelihood": maybe(MEASURED | {"rows": COUNT}),
    "warnings": [TEXT],
}
"""result.json of an evaluation."""
BY_AIS: Schema = {"chains": SIZE, "schedule": Either((TEXT, SIZE)), "temperatures": SIZE}
RESULTS: dict[str, Schema] = {"arms": COMPARISON, "log_z": EVALUATION, "sizes": {"sizes": [SIZE]}}
"""Of result.json, by a field that no other has."""
SIGNALS: Schema = {"start": [[{"*": maybe(NUMBER)}]], "*": [[{"*": maybe(NUMBER)}]]}
"""signals.json."""
NAN = "mean", "test_error", "valid_error", "difference"
"""Fields of a comparison that are null where they were not finite."""
FLOAT = Rule("a number", lambda value: type(value) is float or NUMBER.allows(value))
EPOCH: Schema = {"epoch": SIZE, "train_loss": FLOAT, "seconds": NATURAL, "*": FLOAT}
"""Of the history of a fit."""
TUNED: Schema = EPOCH | {"valid_error": FLOAT, "valid_loss": FLOAT}
"""The same of one with validation examples."""

PARAMETER = numbers(f"a number between −{LARGEST:g} and {LARGEST:g}", lambda number: abs(number) < LARGEST)
LOG_PRECISION = numbers("a number from −80 to 20", lambda number: -80 <= number <= 20.8)
TENSORS = {
    "log_precision": LOG_PRECISION,
    "log_precision_plus": LOG_PRECISION,
    "log_precision_minus": LOG_PRECISION,
    "spread": SPREAD,
    "shift": NUMBER,
    "running_var": numbers("a number of at least 0", lambda number: number >= 0),
}
"""Rules of the numbers of tensors, by the end of their names; others are finite."""


def check_relations(found: Mapping[str, Any], relations: Iterable[Relation]) -> None:
    """`Mismatch` for the first field that is not what it must be beside others."""
    for field, wanted, holds in relations:
        if not holds:
            raise Mismatch(f"{field} is {in_words(found.get(field))}, not {wanted}")


def check_result(found: Any) -> None:
    """`Mismatch` unless this is the content of a result.json; errors that were not finite become NaN again."""
    check(found, ANY)
    kind = next((name for name in RESULTS if name in found), None)
    if kind is None:
        return
    check(found, RESULTS[kind])
    if kind == "log_z" and found["method"] == "ais":
        check(found, BY_AIS)
    if kind == "arms":
        check_relations(found, _of_comparison(found))
        for each in (*found["arms"].values(), *found.get("records", ()), found["comparison"] or {}):
            each |= {name: _or_nan(each[name]) for name in NAN if name in each}


def _or_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_or_nan(each) for each in value]
    return math.nan if value is None else value


def _of_comparison(found: dict[str, Any]) -> Iterator[Relation]:
    arms, n, named = found["arms"], len(found["seeds"]), found["comparison"] or {}
    yield "arms", "those that were compared", bool(arms) and all(map(ARM_NAME.fullmatch, arms))
    by_seed = ("test_error", "valid_error", "best_epoch", "seconds", "test_balanced_error", "test_log_loss")
    yield (
        "seeds",
        "one for each error of an arm",
        n == 0 or all(len(arm[name]) == n for arm in arms.values() for name in by_seed if name in arm),
    )
    yield "seeds", "one at least", n > 0
    yield "comparison", "of two of the arms", all(named.get(name) in (None, *arms) for name in ("best", "next"))
    yield "task", f"one of {', '.join(TASKS)}", found.get("task", "classify") in TASKS
    classes, figures = found.get("classes", []), {"recall", "precision"}
    yield (
        "arms",
        "with recall and precision beside confusion",
        all(figures <= arm.keys() for arm in arms.values() if "confusion" in arm),
    )
    yield "classes", "of a classifier", "support" not in found or "classes" in found
    yield "support", "a count of each class", len(found.get("support", classes)) == len(classes)
    shape = [len(classes)] * len(classes)
    for name, arm in arms.items():
        yield (
            "arms",
            f"with figures of {len(classes)} classes, as not that of {name}",
            not shape
            or all(
                len(given) == len(classes) and (which != "confusion" or [*map(len, given)] == shape)
                for which in ("recall", "precision", "confusion")
                if (given := arm.get(which)) is not None
            ),
        )
