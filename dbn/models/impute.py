"""Missing values of rows given those that are observed: conditional means and samples of a stack."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dbn.arrays import Array, as_cells, as_tensor, columns_of, tensor_with_holes, with_holes
from dbn.errors import InputError, listed, naming_arguments
from dbn.models.matching import Match, column_order
from dbn.models.rbm import RBM
from dbn.models.units.apart import Apart, log_partitions, of_sites, sites_apart
from dbn.rng import stream

if TYPE_CHECKING:
    from dbn.models.dbn import DBN

ROWS_AT_ONCE = 1000
MAX_ELEMENTS = 2**21
"""The most elements of the fields of rows with each site in one state, unless one row alone has more."""


class Holes(NamedTuple):
    """Rows of data with holes, as a stack takes them."""

    x: Tensor
    """(B, V_data) as stored, codes of a table; NaN, or 0 of whole numbers, where unknown."""
    known: Tensor
    """(B, V_data) bool."""
    match: Match
    cells: Any = None
    """Of a table: as they were given."""

    def units(self) -> tuple[Tensor, Tensor]:
        """Values of the visible units (B, V), 0 where unknown, and which are known."""
        known: Tensor = self.match.scaling.observed(self.known)
        return self.match.scaling(self.x).masked_fill(~known, 0.0), known


def holes_of(stack: "DBN", x: Array, known: Array | None = None, divisor: float | None = None, **match: Any) -> Holes:
    """Rows as they are stored, with NaN, None or masked entries, or a mask `known` (B, V_data), where they are unknown.

    InputError for rows that do not fit the stack, a mask of another shape, and a row of which nothing is known.
    match: see `dbn.models.matching.match`; `name` is what errors call the rows.
    """
    name = match.setdefault("name", "x")
    place, cells, order = stack.layers[0].weight.device, None, None
    names = match.setdefault("columns", columns_of(x))
    if stack.scaling.table and "table" not in match:  # cells are not coded yet
        order = column_order(stack.scaling, names, name, "the stack")
        cells = as_cells(with_holes(x), name)
        cells = cells if order is None else cells[:, list(order)]
        rows = stack.scaling.coded(cells, None, name, missing=True)
        match["columns"] = stack.scaling.columns if names else ()
    else:
        rows = tensor_with_holes(x, name)
        rows = rows.flatten(1) if rows.ndim in (3, 4) else rows
    there = torch.ones_like(rows, dtype=torch.bool) if known is None else _mask(known, rows, names)
    if order is not None and known is not None:
        there = there[:, list(order)]
    if rows.is_floating_point():
        there = there & ~rows.isnan()
        rows = rows.masked_fill(~there, torch.nan)
    else:
        rows = rows.masked_fill(~there, 0)
    if len(rows) and rows.ndim == 2 and not (some := there.any(1)).all():
        empty = int((~some).nonzero()[0])
        raise InputError(f"{name}: row {empty} (counted from 0) holds no value at all: leave the row out")
    found = stack.match(rows, divisor=divisor, missing=True, **match)
    return Holes(found.rows(rows).to(place), found.rows(there).to(place), found, cells)


def _mask(known: Array, rows: Tensor, names: tuple[str, ...]) -> Tensor:
    mask = as_tensor(known, "known").to(rows.device)
    if (own := columns_of(known)) and names and own != names:
        if sorted(own) != sorted(names):
            raise InputError(f"known has other columns than x, which has {listed(names)}: give the same")
        mask = mask[:, [own.index(name) for name in names]]
    if not ((mask == 0) | (mask == 1)).all():
        raise InputError("known has values other than true and false: give a bool for each value")
    mask = mask.flatten(1) if mask.ndim in (3, 4) else mask
    if mask.shape != rows.shape:
        raise InputError(
            f"known has shape {tuple(mask.shape)}, but x has {tuple(rows.shape)}: give a bool for each value"
        )
    return mask.bool()


@torch.no_grad()
def impute(
    stack: "DBN",
    x: Array,
    known: Array | None = None,
    *,
    draws: bool = False,
    steps: int = 100,
    discard: int = 20,
    seed: int = 0,
    divisor: float | None = None,
) -> Any:
    """See `DBN.impute`."""
    with naming_arguments():
        holes = holes_of(stack, x, known, divisor)
        filled = filled_values(stack, holes, draws=draws, steps=steps, discard=discard, seed=seed)
    if holes.cells is not None:
        return table_of_cells(stack, holes, filled)
    rows = as_given(stack, holes, filled)
    return rows.reshape(rows.shape if columns_of(x) else tensor_with_holes(x).shape)


def as_given(stack: "DBN", holes: Holes, filled: Tensor) -> Tensor:
    """Rows as they were stored, (B, V_data), with those values of `filled` that are unknown."""
    order = holes.match.order
    given, there = holes.x, holes.known
    if order is not None:
        back = torch.tensor(order).argsort()
        given, there, filled = given[:, back], there[:, back], filled[:, back]
    if not given.is_floating_point() and stack.scaling.codes is None:
        given = given.double()
    return torch.where(there, given, filled.to(given.dtype))


def table_of_cells(stack: "DBN", holes: Holes, filled: Tensor) -> dict[str, list[Any]]:
    """The columns of a table by name, observed cells as they were given."""
    new, there = stack.scaling.cells(filled), holes.known.T.tolist()
    columns = enumerate(zip(new, there, strict=True))
    return {
        name: [
            old if is_known else cell
            for old, is_known, cell in zip(holes.cells[:, place].tolist(), mask, new[name], strict=True)
        ]
        for place, (name, mask) in columns
    }


@torch.no_grad()
def filled_values(
    stack: "DBN", holes: Holes, *, draws: bool = False, steps: int = 100, discard: int = 20, seed: int = 0
) -> Tensor:
    """Means or `draws` of all values given those known, (B, V_data), in the values and the order of `holes.x`."""
    if steps < 1 or discard < 0:
        raise InputError(f"imputing needs at least one Gibbs step, not --steps {steps} after --discard {discard}")
    generator = stream(seed, "impute", device=holes.x.device)
    scaling, parts = holes.match.scaling.to(holes.x.device), []
    for x, known in zip(*(each.split(ROWS_AT_ONCE) for each in holes.units()), strict=True):
        means, drawn = conditional(stack, x, known, steps, discard, generator)
        parts.append(scaling.inverse(drawn if draws else means))
    on = scaling.divisor if scaling.is_divided(holes.x) else 1.0
    return torch.cat(parts) * on if parts else holes.x.float()


@torch.no_grad()
def conditional(
    stack: "DBN", x: Tensor, known: Tensor, steps: int, discard: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """E[v | v_known] and a sample of it, both (B, V), of rows x (B, V) that are 0 where they are not `known`.

    Averages over `steps` states of h, after `discard` others, of E[v | h]. Where rows were learned as incomplete, each
    missing unit i is alone added to the RBM of the observed ones, and

        p(v_i | v_known) ∝ Σ_h p(h | v_known)·Z_i(h)·p(v_i | h)

    with Z_i(h) the normalization of its site: the states of h are independent samples with these weights. Exact, by
    `alone`, for discrete units of such rows, and of rows with one hole, under an RBM.
    """
    apart = sites_apart(stack.layers[0].visible)
    is_alone = each_alone(stack, known, apart)
    if is_alone.all() and all(each.sites for each in apart):
        means, drawn = (x.to(stack.layers[0].weight, copy=True) for _ in range(2))
    else:
        means, drawn = _averages(stack, x, known, steps, discard, generator)
    for rows in is_alone.nonzero()[:, 0].split(rows_alone(stack.layers[0])):
        for each, log_p in alone(stack.layers[0], x[rows], apart):
            assert each.sites is not None
            p, states = log_p.exp().movedim(0, -1), each.sites.states.to(log_p)
            taken = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(p.shape[:2])
            means[rows, each.columns] = (p @ states).flatten(1).to(means)
            drawn[rows, each.columns] = states[taken].flatten(1).to(drawn)
    return torch.where(known, x, means), torch.where(known, x, drawn)


def each_alone(stack: "DBN", known: Tensor, apart: list[Apart]) -> Tensor:
    """Of which rows each missing site is alone beside the observed units, (B,) bool."""
    if len(stack.layers) > 1:
        return torch.zeros_like(known[:, 0])
    if stack.scaling.missing == "absent":
        return torch.ones_like(known[:, 0])
    holes = torch.cat([each.split(~known).any(-1) for each in apart], -1)
    return holes.sum(1) <= 1


def rows_alone(rbm: RBM) -> int:
    """How many rows `alone` may take at once."""
    return max(1, MAX_ELEMENTS // rbm.weight.numel())


@torch.no_grad()
def alone(rbm: RBM, x: Tensor, apart: list[Apart]) -> Iterator[tuple[Apart, Tensor]]:
    """log p(v_i = s | v_known) of each discrete site i that is 0 in x (B, V), beside the other units of x alone.

        p(v_i = s | v_known) = softmax over s of −F(x with s at i)

    For the sites of each type their states by number, (K, B, count).
    """
    field = rbm.hidden_field(x)
    for each in apart:
        if (sites := each.sites) is None:
            continue
        weight = rbm.weight.T[each.columns].unflatten(0, (sites.count, sites.width))
        scores = []
        for state in sites.states.to(x):
            fields = field[:, None] + (state[:, None] * weight).sum(1)
            scores.append(rbm.hidden.log_partition(fields) - each.units.energy(state.expand(sites.count, -1)))
        yield each, torch.stack(scores).log_softmax(0)


def _averages(
    stack: "DBN", x: Tensor, known: Tensor, steps: int, discard: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`conditional` of all units, by samples of h."""
    visible = stack.layers[0].visible
    apart = sites_apart(visible) if _is_weighted(stack) else None
    total, drawn, log_total = torch.zeros_like(x), x, torch.full_like(x, -torch.inf)
    for field in visible_fields(stack, x, known, steps, discard, generator):
        mean, v = visible.mean(field), visible.sample(field, generator)
        log_w = torch.zeros_like(x) if apart is None else log_partitions(apart, field)[1]
        log_next = torch.logaddexp(log_total, log_w)
        total += (mean - total) * torch.exp(log_w - log_next)
        if apart is None:
            drawn = v
        else:  # each with the probability of its weight among those so far, alike for the columns of a site
            share = torch.exp(log_w - log_next)
            taken = of_sites(apart, lambda n: torch.rand(len(x), n, generator=generator, device=x.device)) < share
            drawn = torch.where(taken, v, drawn)
        log_total = log_next
    return total, drawn


def _is_weighted(stack: "DBN") -> bool:
    return stack.scaling.missing == "absent" and len(stack.layers) == 1


def visible_fields(
    stack: "DBN", x: Tensor, known: Tensor, steps: int, discard: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """The fields of the visible units under `steps` samples of h given what is known, each (B, V).

    Gibbs steps in which the known units are held, after `discard` others; where rows were learned as incomplete,
    independent samples of p(h | v_known). Above one layer h is the lowest hidden layer after a pass up, a step in the
    top RBM and a pass down: the approximation of the stack that `DBN.sample` makes from data.
    """
    first, top = stack.layers[0], stack.layers[-1]
    is_chain = stack.scaling.missing != "absent"
    v = x
    for step in range(steps + (discard if is_chain else 0)):
        h = v
        for rbm in stack.layers:
            h = rbm.sample_hidden(h, generator)
        if top is not first:
            h = stack.lowest_hidden(h, generator)
        field = first.visible_field(h)
        if step >= discard or not is_chain:
            yield field
        if is_chain:
            v = torch.where(known, x, first.visible.sample(field, generator))
