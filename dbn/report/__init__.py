"""Reports of runs: one self-contained HTML file each, without scripts and requests."""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.report.write import write_report as write_report

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
