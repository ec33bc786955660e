"""Write a self-contained HTML report of runs, to be read offline or sent."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dbn.cli.commands import Command
from dbn.config.report import ReportConfig

if TYPE_CHECKING:
    from dbn.data.splits import Splits

LOGGER = logging.getLogger("dbn.report")


def main(config: ReportConfig) -> None:
    """Read each run and write its report."""
    from dbn.report.write import write_report
    from dbn.storage.files import check_writable

    if config.output is not None:
        check_writable(config.output)
    for run in config.run:
        print(f"The report is in {write_report(run, config.output)}.")


def at_the_end(run: Path, splits: "Splits | None" = None) -> None:
    """Write the report of a run that has just ended; where that fails, as without matplotlib, a note says why.

    `splits`: its data, which are not read again then.
    """
    from dbn.report.write import write_report

    try:
        write_report(run, splits=splits)
    except (ValueError, RuntimeError, MemoryError, OSError) as error:  # the run itself has ended well
        LOGGER.info("no report.html is written: %s", error)


COMMAND = Command(main, ReportConfig, __doc__)
