"""Scaling of stored values for a model: bytes to [0, 1], and standardized columns."""

import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from dbn.arrays import AnyRows, Array, as_cells, observed_ends
from dbn.columns import Column
from dbn.errors import InputError, listed
from dbn.models.values import SLICE, Where, as_float, kind_of, standardization

Limits = tuple[float, float] | tuple[tuple[float, float], ...]
"""The least and the greatest value, of all columns or of each."""


class Scaling(nn.Module):
    """x ↦ (as_float(x) − shift)/spread, stored with a model. Without `shift` and `spread` (V,) values are only divided.

    Bytes are divided by `divisor`, other numbers too where the model was trained on such. What else is known of the
    data it was trained on decides what it takes, see `dbn.models.matching`: `stored`, "bytes" or "floats"; `values`,
    the least and the greatest after dividing; `columns`, their names. All three are absent in older files. `limits`:
    what the model's units can take, where that is other than [0, 1] and all numbers; of each column where they differ.

    With `codes`, a column of the data holds one of so many codes 0, 1, …, and becomes as many of 0 and 1, one-hot.
    They are one number for all columns, or one for each, 0 where the column is taken as it is. `table` says what each
    column of a table is. Shift and spread are those of the values that a row becomes. `weight_column` held the weights
    of the training rows, and is none of the model's columns. `missing` is how rows with holes were learned from,
    "gibbs" or "absent", "" where there were none.

    >>> Scaling()(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[0., 1.]])
    >>> Scaling(1, codes=3)(torch.tensor([[0, 2]]))
    tensor([[1., 0., 0., 0., 0., 1.]])
    >>> Scaling(1, codes=(0, 3))(torch.tensor([[0.5, 2]]))
    tensor([[0.5000, 0.0000, 0.0000, 1.0000]])
    """

    shift: Tensor | None
    spread: Tensor | None

    def __init__(
        self,
        divisor: float = 255.0,
        shift: Tensor | None = None,
        spread: Tensor | None = None,
        *,
        stored: str | None = None,
        values: tuple[float, float] | None = None,
        limits: Limits | None = None,
        columns: Sequence[str] = (),
        codes: int | Sequence[int] | None = None,
        table: Sequence[Column] = (),
        weight_column: str = "",
        missing: str = "",
    ) -> None:
        super().__init__()
        self.divisor, self.stored, self.values, self.columns = divisor, stored, values, tuple(columns)
        self.limits, self.weight_column, self.missing = limits, weight_column, missing
        self.table = tuple(table)
        given = [each.states for each in table] or codes
        self.codes: int | tuple[int, ...] | None = tuple(given) if isinstance(given, Sequence) else given
        self._layouts: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.constant: list[int] = []
        """Places of the columns that do not vary in the training data; not stored."""
        self.register_buffer("shift", shift)
        self.register_buffer("spread", spread)

    @classmethod
    def fitted(
        cls,
        x: AnyRows,
        divisor: float,
        columns: Sequence[str] = (),
        *,
        standardized: bool | Tensor = False,
        weights: Tensor | None = None,
        **known: Any,
    ) -> "Scaling":
        """That of training rows `x` (N, V); constant columns are centered alone, as by scikit-learn's StandardScaler.

        standardized: of all values, or of each that a row becomes. InputError where all columns are constant, which
        leaves nothing to learn. weights: (N,), of the rows. known: limits, codes and table, as for `Scaling`.
        """
        least, greatest = (as_float(end, divisor).item() for end in observed_ends(x))
        found = cls(divisor, stored=kind_of(x), values=(least, greatest), columns=columns, **known)
        if standardized if isinstance(standardized, bool) else bool(standardized.any()):
            shift, spread = standardization(x, divisor, weights)
            constant = spread == 0
            if constant.all():
                raise InputError("cannot standardize: every column is constant in the training data: give others")
            spread = spread.masked_fill(constant, 1.0)
            if isinstance(standardized, Tensor):
                place, _ = found.layout(x.device)
                others = ~standardized.to(x.device)
                shift, spread = shift[place].masked_fill(others, 0.0), spread[place].masked_fill(others, 1.0)
            found.shift, found.spread, found.constant = shift, spread, constant.nonzero().flatten().tolist()
        return found

    def constants(self, name: str) -> str:
        """A sentence on the columns of `name` that do not vary in the training data; empty where there are none."""
        n, names = len(self.constant), self.columns
        if not n:
            return ""
        shown = listed([names[place] if names else place + 1 for place in self.constant], 5)
        of = ("column is", "is") if n == 1 else ("columns are", "are")
        counted = "" if names else " (counted from 1)"
        return f"{name}: {n:,} {of[0]} constant in the training data and {of[1]} 0 to the model: {shown}{counted}"

    def of_data(self, divisor: float, stored: str) -> "Scaling":
        """The same standardization for data that are stored in another way."""
        names = ("values", "limits", "columns", "codes", "table", "weight_column", "missing")
        known: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Scaling(divisor, self.shift, self.spread, stored=stored, **known)

    def width(self, n: int) -> int:
        """The number of values that a row of `n` stored ones becomes."""
        if isinstance(self.codes, tuple):
            return sum(each or 1 for each in self.codes)
        return n * (self.codes or 1)

    def stored_width(self, n: int) -> int:
        """The number of stored values that become a row of `n`."""
        return len(self.codes) if isinstance(self.codes, tuple) else n // (self.codes or 1)

    @property
    def kinds(self) -> dict[str, Column] | None:
        """What the columns of the table are, by name or place; None where numbers are their own codes."""
        is_plain = all(each.is_plain for each in self.table)
        return None if is_plain else dict(zip(self.names, self.table, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of a table, numbers where they have none."""
        return self.columns or tuple(map(str, range(len(self.table))))

    def coded(self, x: Array, order: Sequence[int] | None, name: str = "x", *, missing: bool = False) -> Tensor:
        """Cells of a table (N, V), text among them, as codes (N, V) float32; `order` as of `Match`.

        missing: whether cells may be, which are NaN.

        InputError for other shapes, and the first cell that is missing or unknown.
        """
        cells = as_cells(x, name)
        if cells.ndim != 2 or (order is None and cells.shape[1] != len(self.table)):
            raise InputError(f"{name} has shape {cells.shape}, but rows of {len(self.table)} columns are needed")
        places = range(len(self.table)) if order is None else order
        found = torch.empty(len(cells), len(self.table), dtype=torch.float32, device="cpu")
        for number, (column, place, called) in enumerate(zip(self.table, places, self.names, strict=True)):
            where = f"{name}, row {{}} (counted from 0), column {called!r}".format
            found[:, number] = torch.tensor(
                column.codes(cells[:, place].tolist(), where, missing=missing), dtype=torch.float32, device="cpu"
            )
        return found

    def cells(self, x: Tensor) -> dict[str, list[Any]]:
        """The columns of a table by name from codes (N, V), as `inverse` gives: the inverse of `coded`."""
        columns = zip(self.names, self.table, x.T.tolist(), strict=True)
        return {name: column.cells(values) for name, column, values in columns}

    def observed(self, there: Tensor) -> Tensor:
        """Which of the values that rows become are known, where `there` (…, V) says so of the stored ones."""
        if isinstance(self.codes, int):
            return there.repeat_interleave(self.codes, -1)
        return there if self.codes is None else there[..., self.layout(there.device)[0]]

    def check_codes(self, x: AnyRows, name: str, where: Where | None = None, *, missing: bool = False) -> None:
        """InputError for the first value of rows `x` (N, V), called `name`, that is none of the codes, nor NaN where
        values may be `missing`."""
        if self.codes is None:
            return
        codes = torch.tensor(self.codes, device=x.device)
        for start, rows in zip(count(0, SLICE), x.split(SLICE), strict=False):
            part = rows.float()
            wrong = (codes > 0) & ((part < 0) | (part >= codes) | (part != part.round()))
            if missing:
                wrong &= ~part.isnan()
            if wrong.any():
                row, column = wrong.nonzero()[0].tolist()
                number = int(codes.expand(part.shape[1])[column])
                called = f" ({self.columns[column]})" if self.columns else ""
                place = f"row {start + row}, column {column}{called} (counted from 0)"
                raise InputError(
                    f"{name} has {part[row, column].item():g} in {where(start + row, column) if where else place}, but "
                    f"categories are whole numbers from 0 to {number - 1}: give such codes, or another number of states"
                )

    def forward(self, x: Tensor) -> Tensor:
        """(…, V) of any type -> float32; (…, V·codes) of codes."""
        if isinstance(self.codes, int):
            states = torch.arange(self.codes, device=x.device)
            return (x[..., None] == states).to(torch.float32).flatten(-2)
        scaled = as_float(x, self.divisor if self.is_divided(x) else 1.0)
        if self.codes is not None:
            place, state = self.layout(x.device)
            scaled = scaled[..., place]
            scaled = torch.where(state < 0, scaled, (scaled == state).to(torch.float32))
        if self.shift is None or self.spread is None:
            return scaled
        return (scaled - self.shift) / self.spread

    def layout(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of each value that a row becomes, its stored column and its code there, −1 for the stored value itself."""
        if device in self._layouts:
            return self._layouts[device]
        codes = self.codes if isinstance(self.codes, tuple) else ()
        pairs = [(place, state) for place, n in enumerate(codes) for state in (range(n) if n else (-1,))]
        place, state = torch.tensor(pairs, dtype=torch.int64, device=device).reshape(-1, 2).unbind(1)
        if not torch.compiler.is_compiling():  # whose tensors are of its trace alone
            self._layouts[device] = place, state
        return place, state

    def extra_repr(self) -> str:
        """The divisor of bytes, and the number of standardized columns."""
        return f"divisor={self.divisor:g}" + ("" if self.shift is None else f", standardized={len(self.shift)}")

    def standardizes_as(self, other: "Scaling") -> bool:
        """Whether both have the same shift and spread, or none, and the same codes and categories."""
        pairs = ((self.shift, other.shift), (self.spread, other.spread))
        alike = all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)
        return alike and (self.codes, self.table) == (other.codes, other.table)

    def description(self) -> dict[str, Any]:
        """The numbers, for a file's metadata."""
        return {
            "divisor": self.divisor,
            "shift": None if self.shift is None else self.shift.tolist(),
            "spread": None if self.spread is None else self.spread.tolist(),
            **self.provenance(),
        }

    def provenance(self) -> dict[str, Any]:
        """What is known of the training data, for a file's metadata."""
        known: dict[str, Any] = {"stored": self.stored, "columns": list(self.columns)}
        known["codes"] = list(self.codes) if isinstance(self.codes, tuple) else self.codes
        known["table"] = [each.description() for each in self.table]
        known["weight_column"], known["missing"] = self.weight_column, self.missing
        known["values"] = self.values and list(self.values)
        known["limits"] = self.limits and _limits_to_json(self.limits)
        return {name: value for name, value in known.items() if value}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Scaling":
        """The inverse of `description`; other keys are ignored. ValueError and the like for what is none."""
        shift, spread = (
            None if values is None else torch.tensor(values, dtype=torch.float32, device="cpu")
            for values in (description["shift"], description["spread"])
        )
        return cls(float(description["divisor"]), shift, spread, **read_provenance(description))

    def is_divided(self, x: AnyRows) -> bool:
        """Whether `x` are values that are divided."""
        return self.divisor != 1.0 and (x.dtype == torch.uint8 or self.stored == "floats")

    def log_abs_det_jacobian(self, x: AnyRows) -> float:
        """log |∂x/∂v|, nats: subtracted from a log-density of scaled v, it gives that of the stored `x` (N, V).

        Σ_i log spread_i, and V·log(divisor) where values are divided.
        """
        divided = x.shape[1] * math.log(self.divisor) if self.is_divided(x) else 0.0
        return divided + (0.0 if self.spread is None else float(self.spread.cpu().double().log().sum()))

    def inverse(self, x: Tensor) -> Tensor:
        """Undo the standardization, not the division, for images; the most probable codes of one-hot groups."""
        if isinstance(self.codes, int):
            groups: Tensor = x.unflatten(-1, (-1, self.codes))
            return groups.argmax(-1)
        if self.shift is not None and self.spread is not None:
            x = x * self.spread + self.shift
        if self.codes is None:
            return x
        parts = x.split([each or 1 for each in self.codes], -1)
        drawn = [part.argmax(-1, keepdim=True).to(x) if part.shape[-1] > 1 else part for part in parts]
        return torch.cat(drawn, -1)


def read_provenance(description: Mapping[str, Any]) -> dict[str, Any]:
    """`Scaling.provenance` as arguments of `Scaling`; ValueError for what is none."""
    stored, values, columns, codes = (description.get(name) for name in ("stored", "values", "columns", "codes"))
    is_range = values is None or (len(values) == 2 and all(math.isfinite(value) for value in values))
    weighted_by, missing = description.get("weight_column", ""), description.get("missing", "")
    if (
        type(weighted_by) is not str
        or missing not in ("", "gibbs", "absent")
        or stored not in (None, "bytes", "floats")
        or not is_range
        or not all(type(each) is str for each in columns or ())
    ):
        raise ValueError(f"{stored!r}, {values!r}, {columns!r} do not describe data")
    one, table = codes if isinstance(codes, list) else [codes], description.get("table")
    if codes is not None and not all(
        type(each) is int and (each >= 2 or (each == 0 and isinstance(codes, list))) for each in one
    ):
        raise ValueError(f"{codes!r} is no number of codes")
    read = tuple(map(Column.from_description, table or ()))
    if read and [each.states for each in read] != codes:
        raise ValueError(f"{codes!r} are not the codes of the table")
    ends = values and (float(values[0]), float(values[1]))
    limits = _limits_from_json(description.get("limits"))
    known = {"stored": stored, "values": ends, "limits": limits, "columns": columns or ()}
    return known | {"codes": codes, "table": read, "weight_column": weighted_by, "missing": missing}


def _limits_to_json(limits: Any) -> list[Any]:
    if isinstance(limits[0], tuple):
        return [_limits_to_json(each) for each in limits]
    return [each if math.isfinite(each) else None for each in limits]


def _limits_from_json(found: Any) -> Any:
    """The inverse: a missing least value is −∞, a missing greatest ∞."""
    if found is None:
        return None
    if isinstance(found[0], list):
        return tuple(map(_limits_from_json, found))
    least, greatest = found
    return -math.inf if least is None else float(least), math.inf if greatest is None else float(greatest)
