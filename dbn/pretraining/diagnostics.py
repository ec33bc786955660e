"""Training diagnostics: warnings for common failure modes of RBMs.

Hinton (2010), "A practical guide to training restricted Boltzmann machines", sections 6, 7 and 15; and chains that no
longer mix. A rule reads the records of a layer so far, oldest first; a new one is a function and a line in `RULES`.
For each there is a test in which following its advice makes validation better. Time is counted in updates, `updates`
of a record: an epoch is two of them on 200 rows and 550 on 55,000.
"""

from collections.abc import Callable, Mapping, Sequence

Record = Mapping[str, float]

SETTLED = 900
"""Updates until which weights change fast in a sound run."""
GROWTH, WORSE, MEASUREMENTS = 1.0, 0.01, 5
"""Nats by which each of the last free-energy gaps, the part by which each of the last validation KLs, and how many of
them, must exceed the lowest."""
FEWEST_ROWS = 100
"""Validation rows below which such changes are chance."""
LOST = 0.5
"""Share of hidden units that are always off, or always on."""
LARGEST_UPDATE, SMALLEST_UPDATE, IN_A_ROW = 0.03, 1e-6, 3
"""Update over weight size, about 0.001 as a rule, and for how many records; large ones are usual at the start."""
HARDLY_MOVED = 0.95
"""Autocorrelation of the chains since the last measurement."""
FEWEST_SWAPS, SLOW = 0.1, 0.25
"""Acceptance rate of swaps between two neighboring temperatures, and autocorrelation of chains that need them."""


def gap_grows(records: Sequence[Record]) -> str | None:
    """Validation data become less likely than training data and are recreated worse than before: the RBM overfits.

    The gap alone grows in every sound run on few rows, in which fewer epochs would be worse.
    """
    measured = [record for record in records if {"free_energy_gap", "valid_kl"} <= record.keys()]
    if records[-1]["valid_rows"] < FEWEST_ROWS:
        return None
    gaps, errors = ([record[name] for record in measured] for name in ("free_energy_gap", "valid_kl"))
    if len(measured) <= MEASUREMENTS or min(gaps[-MEASUREMENTS:]) - min(gaps) < GROWTH:
        return None
    if min(errors[-MEASUREMENTS:]) < (1 + WORSE) * min(errors):
        return None
    best = measured[errors.index(min(errors))]["epoch"]
    return (
        f"the free-energy gap has grown from {min(gaps):.2f} to {gaps[-1]:.2f} nats, and the validation KL from "
        f"{min(errors):.2f} in epoch {best} to {errors[-1]:.2f}: the RBM overfits; train for fewer epochs"
    )


def units_off(records: Sequence[Record]) -> str | None:
    """Units that are never on."""
    share = records[-1].get("hidden_off", 0.0)
    if share <= LOST:
        return None
    return f"{share:.0%} of the hidden units are off for nearly all data: {slower(records)}"


def units_on(records: Sequence[Record]) -> str | None:
    """Units that are always on."""
    share = records[-1].get("hidden_on", 0.0)
    if share <= LOST:
        return None
    return f"{share:.0%} of the hidden units are on for nearly all data: set --sparsity-target, such as 0.1"


def updates_too_large(records: Sequence[Record]) -> str | None:
    """Weights that change too fast, though they have had the updates to grow."""
    grown = [record for record in records if record.get("updates", 0) > SETTLED]
    ratios = [record["update_ratio"] for record in grown if "update_ratio" in record][-IN_A_ROW:]
    if len(ratios) < IN_A_ROW or min(ratios) <= LARGEST_UPDATE:
        return None
    return f"an update changes the weights by {ratios[-1]:.1%} of their size, and 0.1% is usual: {slower(records)}"


def updates_too_small(records: Sequence[Record]) -> str | None:
    """Weights that do not change, though the schedule has not lowered the rate."""
    last, highest = records[-1], max(record.get("learning_rate", 0.0) for record in records)
    ratio = last.get("update_ratio", 1.0)
    if ratio >= SMALLEST_UPDATE or last.get("learning_rate", 0.0) < highest / 10:
        return None
    return f"an update changes the weights by {ratio:.1g} of their size, and 0.001 is usual: raise --learning-rate"


def chains_stand_still(records: Sequence[Record]) -> str | None:
    """Persistent chains that have hardly moved since the last measurement."""
    left = records[-1].get("chain_autocorrelation", 0.0)
    if left <= HARDLY_MOVED:
        return None
    return (
        f"the chains hardly move (autocorrelation {left:.2f} since the last measurement): {slower(records)}, or raise "
        "--gibbs-steps"
    )


def temperatures_apart(records: Sequence[Record]) -> str | None:
    """Neighboring temperatures that swap too rarely for states to travel, where chains do not move by themselves.

    Where they do, as on scikit-learn's digits, more temperatures change nothing.
    """
    rate, left = records[-1].get("swap_rate_lowest", 1.0), records[-1].get("chain_autocorrelation", 1.0)
    if rate >= FEWEST_SWAPS or left <= SLOW:
        return None
    return (
        f"two neighboring temperatures swap only {rate:.1%} of the time, and chains move slowly (autocorrelation "
        f"{left:.2f}): raise --temperatures"
    )


def slower(records: Sequence[Record]) -> str:
    """What makes updates smaller: less momentum where there is any, as updates of ten steps add up at 0.9."""
    return "lower --momentum or --learning-rate" if records[-1].get("momentum") else "lower --learning-rate"


RULES: tuple[Callable[[Sequence[Record]], str | None], ...] = (
    gap_grows,
    units_off,
    units_on,
    updates_too_large,
    updates_too_small,
    chains_stand_still,
    temperatures_apart,
)


class Diagnostics:
    """Reads the records of one layer in order; a warning is not repeated while its cause lasts."""

    def __init__(self, updates_per_epoch: int, valid_rows: int, momentum: float = 0.0) -> None:
        self.updates_per_epoch = updates_per_epoch
        self.setting = {"valid_rows": valid_rows, "momentum": momentum}
        self.records: list[Record] = []
        self._lasting: set[str] = set()

    def warnings(self, record: Mapping[str, float | None]) -> list[str]:
        """New warnings after this record; none without a measurement."""
        # A file of records holds null for a number that was not finite.
        finite = {name: value for name, value in record.items() if value is not None}
        updates = finite.get("epoch", 0) * self.updates_per_epoch
        self.records.append(finite | self.setting | {"updates": updates})
        if "update_ratio" not in record:
            return []
        found = {rule.__name__: rule(self.records) for rule in RULES}
        new = [sentence for name, sentence in found.items() if sentence and name not in self._lasting]
        self._lasting = {name for name, sentence in found.items() if sentence}
        return new
