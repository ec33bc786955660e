"""From milliseconds, repeat by repeat, to medians, ratios and a table."""

from statistics import median, quantiles
from typing import Any

from dbn.benchmarks.cases import Key
from dbn.benchmarks.running import Runner, Setting
from dbn.text_tables import plain_table

LARGEST_SPREAD, FEWEST = 0.1, 5
UNSTABLE = "unstable"
HEAD = ("case", "precision", "ms a step", "least…most", "MB", "ratio", "least…most", "to a step of", "")
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
        results.append(
            {
                "case": name,
                "precision": precision,
                "sizes": list(setting.sizes),
                "batch_size": setting.batch_size,
                "steps": runners[name, precision].steps,
                "ms_per_step": own,
                "ratios": ratios,
                "unstable": any(each["unstable"] for each in ratios or [own]),
                "memory_mb": memory[name, precision],
            }
        )
    return results


def summary(values: list[float]) -> dict[str, Any]:
    """Median, least, most; spread: the distance of the quartiles over the median; unstable: see `RULE`."""
    middle, spread = median(values), None
    if len(values) > 1:
        low, _, high = quantiles(values, n=4, method="inclusive")
        spread = (high - low) / middle
    unstable = spread is None or len(values) < FEWEST or spread > LARGEST_SPREAD
    found = {"median": middle, "least": min(values), "most": max(values), "spread": spread, "unstable": unstable}
    return {**found, "values": values}


def table(results: list[dict[str, Any]]) -> str:
    """A line a case, and a further one for every further baseline."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        ms, memory = result["ms_per_step"], result["memory_mb"]
        span, megabytes = f"{ms['least']:.3f}…{ms['most']:.3f}", "" if memory is None else f"{memory:.0f}"
        first: tuple[str, ...] = (result["case"], result["precision"], f"{ms['median']:.3f}", span, megabytes)
        if not result["ratios"]:
            rows.append((*first, "", "", "", UNSTABLE * ms["unstable"]))
        for ratio in result["ratios"]:
            to = ratio["to"] if ratio["precision"] == result["precision"] else f"{ratio['to']} ({ratio['precision']})"
            span = f"{ratio['least']:.2f}…{ratio['most']:.2f}"
            rows.append((*first, f"{ratio['median']:.2f}", span, to, UNSTABLE * ratio["unstable"]))
            first = ("",) * len(first)
    return plain_table(HEAD, rows, align="llrrrrrll")


def kernel_table(results: list[dict[str, Any]]) -> str:
    """A line a case: what a step launches."""
    rows = [
        (each["case"], each["precision"], f"{each['kernels_per_step']:.1f}", f"{each['kernel_us_per_step']:.1f}")
        for each in results
    ]
    return plain_table(("case", "precision", "kernels a step", "µs of their own"), rows, align="llrr")
