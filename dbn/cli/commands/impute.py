"""Fill in the missing values of rows by a pre-trained stack: means, or samples, given what is observed."""

from typing import TYPE_CHECKING, Any

from dbn.cli.commands import Command
from dbn.config.inference import ImputeConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dbn.data.splits import Splits
    from dbn.models.dbn import DBN


def main(config: ImputeConfig) -> None:
    """Read the rows, write them with their holes filled in, say how many there were."""
    from dbn.data.readers import kind_of, read_table
    from dbn.data.readers.csv import text_cells
    from dbn.errors import InputError
    from dbn.models.impute import filled_values, holes_of
    from dbn.runs.weights import load
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv, write_rows
    from dbn.training.device import pick_device

    stack = load(config.run).to(pick_device(config.device))
    is_csv = config.output.suffix.lower() == ".csv"
    if stack.scaling.kinds and not is_csv:
        raise InputError(f"--output {config.output}: {config.run} is of a table with categories, so name a .csv file")
    reading = {"kinds": stack.scaling.kinds, "missing": True} | config.reading()
    table = read_table(config.data, needs_mark=False, **reading)
    if table.valid or table.test:
        raise InputError(f"{config.data} has validation or test rows beside x: save the rows to fill in as x alone")
    divisor = table.divisor if table.divisor_given else None
    known: dict[str, Any] = {"columns": table.columns, "table": table.table}
    holes = holes_of(stack, table.train.tensor, divisor=divisor, name=str(config.data), **known)
    check_writable(config.output)
    filled = filled_values(
        stack, holes, draws=config.draws, steps=config.steps, discard=config.discard, seed=config.seed
    ).cpu()
    columns, x = _columns(stack, table, filled), table.train.tensor
    order = holes.match.order or range(filled.shape[1])
    if not is_csv:
        places = [list(order).index(place) for place in range(x.shape[1])]
        there = ~x.isnan() if x.is_floating_point() else x == x
        write_rows(config.output, {"x": filled[:, places].where(~there, x.to(filled.dtype)).numpy()})
    else:
        header, rows = text_cells(config.data, config.delimiter) if kind_of(config.data) in TEXT else _as_text(table)
        for place, cells, mask in zip(order, columns, holes.known.T.tolist(), strict=True):
            at = header.index(table.columns[place]) if table.columns else place
            for row, cell, is_known in zip(rows, cells, mask, strict=True):
                if not is_known:
                    row[at] = cell
        write_csv(config.output, header, rows, ".6g")
    count, of_rows = int((~holes.known).sum()), int((~holes.known).any(1).sum())
    for note in holes.match.notes:
        print(f"{note}.")
    how = "samples" if config.draws else "means"
    print(f"{count:,} missing values in {of_rows:,} of {len(x):,} rows, filled in by {how}: {config.output}")


TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Kinds of files whose cells are text, which is kept as it is."""


def _columns(stack: "DBN", table: "Splits", filled: "Tensor") -> list[list[Any]]:
    """The cells of each column of the model."""
    return list(stack.scaling.cells(filled).values()) if stack.scaling.table else filled.T.tolist()


def _as_text(table: "Splits") -> tuple[list[str], list[list[Any]]]:
    """A header and rows of a table that is kept in another form."""
    x = table.train.tensor
    names = list(table.columns) or [f"x_{n}" for n in range(1, x.shape[1] + 1)]
    columns = x.nan_to_num(0.0).T.tolist()
    if table.table:
        columns = [column.cells(values) for column, values in zip(table.table, columns, strict=True)]
    return names, [list(row) for row in zip(*columns, strict=True)]


COMMAND = Command(main, ImputeConfig, __doc__)
