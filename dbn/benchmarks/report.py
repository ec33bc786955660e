"""From milliseconds, repeat by repeat, to medians, ratios and a table."""

from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

from dbn.benchmarks.cases import Key
from dbn.benchmarks.running import Runner, Setting

LARGEST_SPREAD, FEWEST = 0.1, 5
RULE = (
    f"unstable: the quartiles of the ratios (of the times, where there is no ratio) lie further apart than "
    f"{LARGEST_SPREAD:.0%} of their median, or there are fewer than {FEWEST} repeats"
)


def results_of(
    setting: Setting,
    runners: dict[Key, Runner],
    times: dict[Key, list[float]],
    memory: dict[Key, float | None],
    baselines: dict[Key, list[Key]],
) -> list[dict[str, Any]]:
    """A dictionary a case: milliseconds a step, and the ratio to each baseline, repeat by repeat."""
    results = []
    for (name, precision), ms in times.items():
        ratios = []
        for key in baselines[name, precision]:
            if key in times:
                paired = [ours / theirs for ours, theirs in zip(ms, times[key], strict=True)]
                ratios.append({"to": key[0], "precision": key[1], **summary(paired)})
        own = summary(ms)
        judged = [each["unstable"] for each in ratios] or [own["unstable"]]
        results.append(
            {
                "case": name,
                "precision": precision,
                "sizes": list(setting.sizes),
                "batch_size": setting.batch_size,
                "steps": runners[name, precision].steps,
                "ms_per_step": own,
                "ratios": ratios,
                "unstable": any(judged),
                "memory_mb": memory[name, precision],
            }
        )
    return results


def summary(values: list[float]) -> dict[str, Any]:
    """Median, least, most; spread: the distance of the quartiles over the median; unstable: see `RULE`."""
    middle = median(values)
    spread = None
    if len(values) > 1:
        low, _, high = quantiles(values, n=4, method="inclusive")
        spread = (high - low) / middle
    unstable = spread is None or len(values) < FEWEST or spread > LARGEST_SPREAD
    return {
        "median": middle,
        "least": min(values),
        "most": max(values),
        "spread": spread,
        "unstable": unstable,
        "values": values,
    }


def table(results: list[dict[str, Any]]) -> str:
    """A line a case, and a further one for every further baseline."""
    head = ("case", "precision", "ms a step", "least…most", "MB", "ratio", "least…most", "to a step of", "")
    rows: list[tuple[str, ...]] = [head]
    for result in results:
        ms, memory = result["ms_per_step"], result["memory_mb"]
        first: tuple[str, ...] = (
            result["case"],
            result["precision"],
            f"{ms['median']:.3f}",
            f"{ms['least']:.3f}…{ms['most']:.3f}",
            "" if memory is None else f"{memory:.0f}",
        )
        if not result["ratios"]:
            rows.append((*first, "", "", "", _mark(ms)))
        for ratio in result["ratios"]:
            to = ratio["to"] if ratio["precision"] == result["precision"] else f"{ratio['to']} ({ratio['precision']})"
            span = f"{ratio['least']:.2f}…{ratio['most']:.2f}"
            rows.append((*first, f"{ratio['median']:.2f}", span, to, _mark(ratio)))
            first = ("",) * len(first)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides: list[Callable[[str, int], str]] = [str.rjust if 2 <= n <= 6 else str.ljust for n in range(len(head))]
    lines = ("  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _mark(found: dict[str, Any]) -> str:
    return "unstable" if found["unstable"] else ""
