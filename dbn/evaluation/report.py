"""What `dbn.evaluation.evaluate` found, in tables for a reader."""

from collections.abc import Sequence
from typing import Any

from dbn.text_tables import Line, columns


def evaluation_text(found: dict[str, Any]) -> str:
    """Tables of what `evaluate_stack` found, and its warnings."""
    sizes = " – ".join(f"{units['size']:,} {units['kind']}" for units in found["units"])
    how = "exact"
    if found["method"] == "ais":
        schedule = found["schedule"] if isinstance(found["schedule"], str) else "quick's proportions"
        how = f"AIS, {found['chains']:,} chains, {found['temperatures']:,} temperatures ({schedule}), "
        how += f"seed {found['seed']}"
        how += "; the model is small enough for --exact" if found["exact_possible"] else ""
    heading = "\n".join([f"Model: {sizes} units. log Z: {how}.", *found["origin"]])
    log_z: list[Line] = [("log Z", "nats", "ln(Ẑ ± 3 s.e.)", "effective sample size", "reverse − forward")]
    for layer, estimate in enumerate(found["layers"], start=1):
        log_z += _log_z_lines(estimate, f"layer {layer}, " if len(found["layers"]) > 1 else "")
    figures: list[Line] = [("nats a row", "rows", "mean ± s.e.", "over log Z's interval"), *_figure_lines(found)]
    tables = [columns(log_z), columns(figures)]
    annealed = [(f"layer {n}", gain["annealed"]) for n, gain in enumerate(found["gains"], start=2) if gain["annealed"]]
    if annealed:
        head = (
            "test, brought, by annealing from the layer below",
            "nats a row",
            "± 3 s.e.",
            "effective sample size",
            "left of the data at the start",
        )
        tables.append(columns([head, *(line for name, gain in annealed for line in _gain_lines(name, gain))]))
    return "\n\n".join([heading, *tables, *(f"Warning: {each}" for each in found["warnings"])])


def _log_z_lines(estimate: dict[str, Any], whose: str) -> list[Line]:
    size = estimate["effective_sample_size"]
    if size is None:
        return [(f"{whose}exact", f"{estimate['log_z']:.2f}", "", "", "")]
    lines: list[Line] = [
        (f"{whose}AIS", f"{estimate['log_z']:.2f}", _interval(estimate["log_z_interval"]), f"{size:.1f}", "")
    ]
    for start, each in estimate["reverse"].items():
        lines.append(
            (
                f"{whose}reverse from {start} (diagnostic)",
                f"{each['log_z']:.2f}",
                _interval(each["log_z_interval"]),
                f"{each['effective_sample_size']:.1f}",
                f"{each['difference']:+.2f}",
            )
        )
    return lines


def _gain_lines(name: str, gain: dict[str, Any]) -> list[Line]:
    """Both runs, each with the interval of its log-ratio, and what they say together: no run has exact starts."""
    lines: list[Line] = []
    for way in ("forward", "reverse"):
        run = gain[way]
        rows = run["mean"] + run["log_ratio"]  # of E[F^h − F], whatever log Z is
        lower, upper = run["log_ratio_interval"]
        ends = _interval((rows - upper, rows - lower))
        size, left = f"{run['effective_sample_size']:.1f}", f"{run['start_autocorrelation']:.2f}"
        lines.append((f"{name}, {way} (diagnostic)", f"{run['mean']:.2f}", ends, size, left))
    lines.append((f"{name}, both, and the rows' own error", _with_error(gain), _interval(gain["interval"]), "", ""))
    return lines


def _figure_lines(found: dict[str, Any]) -> list[Line]:
    lines: list[Line] = []
    for part, measured in found["parts"].items():
        for layers, figure in enumerate(measured["layers"], start=1):
            if len(measured["layers"]) == 1:
                name = "log-likelihood"
            else:
                name = "log-likelihood of layer 1" if layers == 1 else f"lower bound of layers 1–{layers}"
            lines.append(_figure_line(f"{part} {name}", measured["rows"], figure))
    rows = found["parts"]["test"]["rows"]
    for layer, figure in enumerate(found["gains"], start=2):
        lines.append(_figure_line(f"test, brought by layer {layer}", rows, figure))
    pseudo = found["pseudo_likelihood"]
    if pseudo is not None:
        of = " of layer 1" if len(found["layers"]) > 1 else ""
        lines.append(_figure_line(f"test pseudo-likelihood{of}", pseudo["rows"], pseudo))
    return lines


def _figure_line(name: str, rows: int, figure: dict[str, Any]) -> Line:
    interval = _interval(figure["interval"]) if "interval" in figure else ""
    return name, f"{rows:,}", _with_error(figure), interval


def _with_error(figure: dict[str, Any]) -> str:
    error = "" if figure["standard_error"] is None else f" ± {figure['standard_error']:.2f}"
    return f"{figure['mean']:.2f}{error}"


def _interval(ends: Sequence[float]) -> str:
    lower, upper = ends
    return "" if lower == upper else f"{lower:.2f} … {upper:.2f}"
