"""Write a self-contained HTML report of runs, to be read offline or sent."""

from dbn.cli.commands import Command
from dbn.config.report import ReportConfig


def main(config: ReportConfig) -> None:
    """Read each run and write its report."""
    from dbn.report.write import write_report
    from dbn.storage.files import check_writable

    if config.output is not None:
        check_writable(config.output)
    for file in [write_report(run, config.output) for run in config.run]:
        print(f"The report is in {file}.")


COMMAND = Command(main, ReportConfig, __doc__)
