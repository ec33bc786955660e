"""The report at the end of a command that took long."""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from dbn.errors import InputError

LONG = 60.0
"""Seconds from which on a report, of a few seconds, costs little beside the run."""


def reporting(main: Callable[[Any], None]) -> Callable[[Any], None]:
    """`main`, and after a long one the report of its run; of several processes the first writes it."""

    def timed(config: Any) -> None:
        begun = monotonic()
        main(config)
        if monotonic() - begun >= LONG and os.environ.get("RANK", "0") == "0":
            print(_written(config.run))

    return timed


def _written(run: Path) -> str:
    """A sentence: where the report is, or why there is none, which is no failure of the run."""
    try:
        from dbn.report.write import write_report

        return f"The report is in {write_report(run)}."
    except InputError as error:
        return f"No report is written: {error}."
