"""The part of a report on log Z and likelihoods."""

from collections.abc import Mapping
from typing import Any

from dbn.evaluation.report import cells, heading
from dbn.report.page import Block, Section, Table, Text, Warned


def evaluation_section(found: Mapping[str, Any] | None) -> list[Section]:
    """Tables and warnings of an evaluation, where there is one."""
    if found is None or "log_z" not in found:
        return []
    blocks: list[Block] = [*map(Text, heading(dict(found)).splitlines())]
    for headers, rows, note in cells(dict(found)):
        blocks += [Table(headers, rows), *([Text(note)] if note else [])]
    blocks += map(Warned, found["warnings"])
    return [Section("Log Z and likelihood", blocks)]
