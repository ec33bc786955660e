"""Values of a model for each row: features, reconstructions, free energies, likelihoods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dbn.arrays import columns_of
from dbn.columns import Column
from dbn.config.evaluation import EvaluateConfig
from dbn.config.inference import Binarization, RowValue
from dbn.data.checks import Array, rows_of
from dbn.data.objects import as_numbers
from dbn.errors import InputError, naming_arguments
from dbn.evaluation.evaluate import copied
from dbn.evaluation.examples import EvaluationData, evaluation_data
from dbn.evaluation.external_rbm import read_model
from dbn.evaluation.log_partitions import top_log_partition
from dbn.evaluation.measure import bounds_plus_log_z, has_exact_values
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.values import Where
from dbn.training.device import pick_device

ROWS_AT_ONCE = 1000


class RowValues(NamedTuple):
    """Values by name, (N,) or (N, D) on the CPU, and what a person must know of them, a sentence each."""

    values: dict[str, Tensor]
    notes: list[str]


def row_values(
    model: RBM | DBN | Path | str,
    x: Array,
    write: RowValue | Sequence[RowValue] = ("features",),
    *,
    layer: int | None = None,
    binarize: Binarization | None = None,
    ais: int | Literal["published", "quick"] = "quick",
    seed: int = 0,
    device: str = "auto",
    divisor: float | None = None,
) -> RowValues:
    """What a model says of every row of x (N, V), as it is stored; bytes are divided and columns standardized.

    model: an RBM, a DBN, or the path of one. layer: 1, 2, …, the top one by default; layers below it pass up their mean
    activities. write: any of

    * features: E[h | v] of the layer, (N, H).
    * reconstruction: up to the layer and down again by means, (N, V), in the values of x and the order of its columns.
    * free-energy: F of the layer's RBM at its input, nats.
    * log-likelihood: log p(x), nats, of data as they are stored. `log_likelihood` is exact, up to 2²⁵ states of a side;
      else `log_likelihood_ais` is estimated by 100 AIS chains from the marginals of x, with `_low` and `_high` at the
      ends of log Z's interval. Above the first layer it is a lower bound of the stack,
      `log_likelihood_bound` or `log_likelihood_bound_ais`.
    * pseudo-likelihood: Σ_i log p(v_i | v_−i) of the first layer, nats.

    binarize: how likelihoods take gray levels where units are binary; left out, as a run folder was trained.
    ais: temperatures, "quick" (1,001), "published" (14,501) or a number. divisor: of the rows; by default that of
    training, and where it is not certain which, an error says so.

    >>> from dbn.models import Bernoulli
    >>> found = row_values(RBM(Bernoulli(4), Bernoulli(3)), torch.eye(4), ["features", "log-likelihood"])
    >>> found.values["features"].shape, found.values["log_likelihood"][0]  # −4 ln 2
    (torch.Size([4, 3]), tensor(-2.7726, dtype=torch.float64))

    Raises:
        InputError: rows that do not fit the model or its units, no such layer, a model without a finite Z.
    """
    wanted = [write] if isinstance(write, str) else list(write)
    with naming_arguments():
        path = Path(model) if isinstance(model, str | Path) else None
        config = EvaluateConfig(
            run=path or Path(), binarize=binarize, seed=seed, device=device, reverse=False, ais=ais, divisor=divisor
        )
        stack = read_model(path) if path else copied(model)
        return values_of(stack, x, wanted, config, layer, from_run=path is not None)


@torch.no_grad()
def values_of(
    stack: DBN,
    x: Array,
    wanted: Sequence[str],
    config: EvaluateConfig,
    layer: int | None = None,
    *,
    from_run: bool,
    name: str = "x",
    columns: Sequence[str] | None = None,
    table: Sequence[Column] | None = None,
    where: Where | None = None,
) -> RowValues:
    """See `row_values`; errors name options as the command line does.

    name: what they call the rows. columns: their names, those of a frame by default. table: what the columns of a table
    are whose cells are codes already. where: the place of a row and column.
    """
    stack = _up_to(stack, layer).to(pick_device(config.device))
    divisor = config.divisor
    assert divisor != "max"
    if columns is None and stack.scaling.table:
        x, columns = stack.coded(x, name).cpu(), stack.scaling.columns
    rows = rows_of(name, "x", as_numbers(x))
    columns = columns_of(x) if columns is None else columns
    match = stack.match(rows, name, divisor=divisor, columns=columns, table=table, where=where)
    scaling, rows = match.scaling.to(stack.layers[0].weight.device), match.rows(rows)
    notes = [f"{note}." for note in match.notes]
    values: dict[str, list[Tensor]] = {}
    for part in rows.split(ROWS_AT_ONCE):
        for each, value in _activities(stack, scaling, part, wanted).items():
            values.setdefault(each, []).append(value.cpu())
    found = {each: torch.cat(parts) for each, parts in values.items()}
    if match.order and "reconstruction" in found:
        found["reconstruction"] = found["reconstruction"][:, torch.tensor(match.order, device="cpu").argsort()]
    if {"log-likelihood", "pseudo-likelihood"} & {*wanted}:
        known = stack.scaling.columns
        data = evaluation_data(stack, rows, None, config, from_run=from_run, name=name, columns=known, coded=True)
        notes += data.origin[1:]
        data = data.to(stack.layers[0].weight.device)
        if "pseudo-likelihood" in wanted:
            parts = data.parts["test"].split(ROWS_AT_ONCE)
            of_parts = [pseudo_log_likelihood(stack.layers[0], data.scaling(part)).cpu() for part in parts]
            found["pseudo_likelihood"] = torch.cat(of_parts)
        if "log-likelihood" in wanted:
            likelihoods, said = _log_likelihoods(stack, data, config)
            found |= likelihoods
            notes += said
    return RowValues(found, notes)


def _up_to(stack: DBN, layer: int | None) -> DBN:
    if layer is not None and not 1 <= layer <= len(stack.layers):
        raise InputError(f"--layer {layer} is none of the {len(stack.layers)} layers of the stack, counted from 1")
    return DBN(stack.layers[:layer], stack.scaling, stack.image_shape)


def _activities(stack: DBN, scaling: Scaling, part: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
    part = part.to(stack.layers[0].weight.device)
    below = stack.up(scaling(part), len(stack.layers) - 1)
    found = {}
    if "features" in wanted:
        found["features"] = stack.layers[-1].up(below)
    if "reconstruction" in wanted:
        divisor = scaling.divisor if scaling.is_divided(part) else 1.0
        found["reconstruction"] = scaling.inverse(stack.down(stack.layers[-1].up(below))) * divisor
    if "free-energy" in wanted:
        found["free_energy"] = stack.layers[-1].free_energy(below)
    return found


def _log_likelihoods(stack: DBN, data: EvaluationData, config: EvaluateConfig) -> tuple[dict[str, Tensor], list[str]]:
    """By name; and how log Z was found, with its interval."""
    exact = has_exact_values(stack.layers[-1])
    log_z = top_log_partition(stack, data, config, is_exact=exact)
    terms = bounds_plus_log_z(stack, data, data.parts["test"], config.seed, "test")[-1]
    name = "log_likelihood" + "_bound" * (len(stack.layers) > 1) + "_ais" * (not exact)
    if exact:
        return {name: terms - log_z.log_z}, [f"log Z is exact: {log_z.log_z:.3f} nats."]
    (low, high), size = log_z.interval, log_z.effective_sample_size or 0.0
    said = (
        f"log Z by AIS: {log_z.log_z:.3f} nats, from {low:.3f} to {high:.3f}; effective sample size {size:.0f} of 100."
    )
    return {name: terms - log_z.log_z, f"{name}_low": terms - high, f"{name}_high": terms - low}, [
        said,
        *log_z.warnings,
    ]
