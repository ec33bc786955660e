"""Tables and warnings of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from dbn.registry import split_sum
from dbn.runs.card import escaped, table
from dbn.text_tables import Row, plain_table

LOG_Z = ("log Z", "nats", "ln(Ẑ ± 3 s.e.)", "effective sample size", "reverse − forward")
FIGURES = ("nats per row", "rows", "mean ± s.e.", "over log Z's interval")
GAINS = (
    "test, gain by annealing from the layer below",
    "nats per row",
    "± 3 s.e.",
    "effective sample size",
    "autocorrelation with the data at the start",
)
NO_BOUNDS = "Reverse runs do not start from exact samples of the model: their ends bound nothing by themselves."


def evaluation_text(found: dict[str, Any]) -> str:
    """Tables of what `evaluate_stack` found, and its warnings."""
    tables = [plain_table(headers, rows) + (f"\n{note}" if note else "") for headers, rows, note in cells(found)]
    return "\n\n".join([heading(found), *tables, *(f"Warning: {each}" for each in found["warnings"])])


def evaluation_markdown(found: dict[str, Any]) -> str:
    """The same for a model card."""
    tables = [text for headers, rows, note in cells(found) for text in (table(headers, rows), escaped(note)) if text]
    warnings = [f"Warning: {escaped(each)}" for each in found["warnings"]]
    return "\n\n".join([*map(escaped, heading(found).splitlines()), *tables, *warnings])


def heading(found: dict[str, Any]) -> str:
    """What was measured, and on what."""
    return "\n".join([f"Model: {_sizes(found)} units. log Z: {_method(found)}.", *found["origin"]])


def cells(found: dict[str, Any]) -> list[tuple[Row, list[Row], str]]:
    """Headers and rows of each table, and the sentence below it."""
    layers = enumerate(found["layers"], start=1)
    several = len(found["layers"]) > 1
    log_z = [row for n, layer in layers for row in _log_z_rows(layer, f"layer {n}, " if several else "")]
    is_reverse = any(layer["reverse"] for layer in found["layers"])
    tables: list[tuple[Row, list[Row], str]] = [
        (LOG_Z, log_z, NO_BOUNDS if is_reverse else ""),
        (FIGURES, _figure_rows(found), ""),
    ]
    gains = enumerate((gain["annealed"] for gain in found["gains"]), start=2)
    if annealed := [row for n, gain in gains if gain for row in _gain_rows(f"layer {n}", gain)]:
        tables.append((GAINS, annealed, ""))
    return tables


def _sizes(found: dict[str, Any]) -> str:
    return " – ".join(f"{units['size']:,} {units['kind']}{_parts(units)}" for units in found["units"])


def _parts(units: Mapping[str, Any]) -> str:
    """Of mixed units, the number of each type.

    >>> _parts({"kind": "mixed", "size": 6, "parts": "1 gaussian + 2 bernoulli + 3 gaussian"})
    ' (4 gaussian, 2 bernoulli)'
    """
    counts: dict[str, int] = {}
    for count, spec in split_sum(units.get("parts", "")) or ():
        counts[spec] = counts.get(spec, 0) + count
    return f" ({', '.join(f'{count:,} {spec}' for spec, count in counts.items())})" if counts else ""


def _method(found: dict[str, Any]) -> str:
    if found["method"] == "exact":
        return "exact"
    schedule = found["schedule"] if isinstance(found["schedule"], str) else "quick's proportions"
    small = "; the model is small enough for --exact" if found["exact_possible"] else ""
    return (
        f"AIS, {found['chains']:,} chains, {found['temperatures']:,} temperatures ({schedule}), "
        f"seed {found['seed']}{small}"
    )


def _log_z_rows(estimate: dict[str, Any], layer: str) -> list[Row]:
    size = estimate["effective_sample_size"]
    if size is None:
        return [(f"{layer}exact", f"{estimate['log_z']:z.2f}", "", "", "")]
    runs = [(f"{layer}AIS", estimate, "")]
    runs += [
        (f"{layer}reverse from {start} (diagnostic)", run, f"{run['difference']:+z.2f}")
        for start, run in estimate["reverse"].items()
    ]
    return [
        (name, f"{run['log_z']:z.2f}", _interval(run["log_z_interval"]), f"{run['effective_sample_size']:.1f}", further)
        for name, run, further in runs
    ]


def _gain_rows(layer: str, gain: dict[str, Any]) -> list[Row]:
    """Each run with the interval of its log-ratio, and both together; no run has exact starts."""
    rows: list[Row] = []
    for way in ("forward", "reverse"):
        run = gain[way]
        difference = run["mean"] + run["log_ratio"]  # E[F^h − F], whatever log Z is
        lower, upper = run["log_ratio_interval"]
        ends = _interval((difference - upper, difference - lower))
        size, left = f"{run['effective_sample_size']:.1f}", f"{run['start_autocorrelation']:z.2f}"
        rows.append((f"{layer}, {way} (diagnostic)", f"{run['mean']:z.2f}", ends, size, left))
    return [*rows, (f"{layer}, both, with the rows' error", _with_error(gain), _interval(gain["interval"]), "", "")]


def _figure_rows(found: dict[str, Any]) -> list[Row]:
    rows = []
    for part, measured in found["parts"].items():
        for layer, figure in enumerate(measured["layers"], start=1):
            if len(measured["layers"]) == 1:
                name = "log-likelihood"
            else:
                name = "log-likelihood of layer 1" if layer == 1 else f"lower bound of layers 1–{layer}"
            rows.append((f"{part} {name}", measured["rows"], figure))
    for layer, gain in enumerate(found["gains"], start=2):
        rows.append((f"test, gain by layer {layer}", found["parts"]["test"]["rows"], gain))
    if pseudo := found["pseudo_likelihood"]:
        of = " of layer 1" if len(found["layers"]) > 1 else ""
        rows.append((f"test pseudo-log-likelihood{of}", pseudo["rows"], pseudo))
    return [
        (name, f"{n:,}", _with_error(figure), _interval(figure["interval"]) if "interval" in figure else "")
        for name, n, figure in rows
    ]


def _with_error(figure: dict[str, Any]) -> str:
    error = "" if figure["standard_error"] is None else f" ± {figure['standard_error']:z.2f}"
    return f"{figure['mean']:z.2f}{error}"


def _interval(ends: Sequence[float]) -> str:
    lower, upper = ends
    return "" if lower == upper else f"{lower:z.2f} … {upper:z.2f}"
