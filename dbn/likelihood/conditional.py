"""Likelihoods of held-out values given the others of their row, each by itself."""

import math

import torch
from torch import Tensor

from dbn.arrays import Array
from dbn.errors import InputError, naming_arguments
from dbn.models.dbn import DBN
from dbn.models.impute import alone, each_alone, holes_of, rows_alone, visible_fields
from dbn.models.rbm import RBM
from dbn.models.units.apart import Apart, log_partitions, log_probabilities, sites_apart
from dbn.models.units.sites import index_of
from dbn.rng import stream

ROWS_AT_ONCE = 1000


@torch.no_grad()
def conditional_log_likelihood(
    stack: DBN,
    x: Array,
    known: Array,
    *,
    steps: int = 100,
    discard: int = 20,
    seed: int = 0,
    divisor: float | None = None,
) -> Tensor:
    """log p(x_i | x_known) of every held-out value i, (B, V) in the order of the model's columns, nats.

    NaN for values that are known and for holes. Of several held-out values in a row each is taken alone, the others
    summed out: their mean is a mean of single-site conditionals, not the likelihood of all together. Numbers have a
    log-density, in the values as they are stored.

    Exact, by the free energies of its states, for a single hole in discrete units, and for all discrete units where
    rows were learned as incomplete; otherwise an average over `steps` states of h, as `DBN.impute` makes them.

    x: rows as for `DBN.impute`; known: (B, V), false where a value is held out. InputError as for `DBN.impute`.

    >>> from dbn.models import Bernoulli, Scaling
    >>> stack = DBN([RBM(Bernoulli(3), Bernoulli(2))], Scaling(1))
    >>> conditional_log_likelihood(stack, torch.eye(3), ~torch.eye(3).bool())[0]  # log ½
    tensor([-0.6931,     nan,     nan])
    """
    with naming_arguments():
        truth, given = (holes_of(stack, x, mask, divisor) for mask in (None, known))
    if steps < 1 or discard < 0:
        raise InputError(f"a likelihood needs at least one Gibbs step, not steps={steps} after discard={discard}")
    held, rbm, generator = truth.known & ~given.known, stack.layers[0], stream(seed, "impute", device=given.x.device)
    values, there = truth.units()
    free = rbm.visible.sample(torch.zeros_like(values), generator)
    rbm.visible.check_states(torch.where(there, values, free))
    v, seen = given.units()
    absent = stack.scaling.missing == "absent"
    parts = []
    if rbm.visible.sites() is not None and each_alone(stack, seen, sites_apart(rbm.visible)).all():
        rows = rows_alone(rbm)
        parts = [_by_states(rbm, *each) for each in zip(v.split(rows), values.split(rows), strict=True)]
    else:
        for rows, mask, truths in zip(*(each.split(ROWS_AT_ONCE) for each in (v, seen, values)), strict=True):
            parts.append(_by_sampling(stack, rows, mask, truths, steps, discard, generator, is_weighted=absent))
    found = torch.cat(parts) - _log_scale(stack, given.match.scaling.is_divided(given.x))
    return found.masked_fill(~held, torch.nan)


def _by_states(rbm: RBM, v: Tensor, values: Tensor) -> Tensor:
    """(B, sites): log p(v_i | v_known) of each site i that is 0 in v (B, V); see `alone`."""
    found = []
    for each, log_p in alone(rbm, v, sites_apart(rbm.visible)):
        assert each.sites is not None
        here = index_of(each.sites, values[:, each.columns]).clamp_min(0)
        found.append(log_p.gather(0, here[None])[0])
    return torch.cat(found, 1)


def _by_sampling(
    stack: DBN,
    v: Tensor,
    known: Tensor,
    values: Tensor,
    steps: int,
    discard: int,
    generator: torch.Generator,
    *,
    is_weighted: bool,
) -> Tensor:
    """(B, sites): log of the mean over h of p(v_i | h); weighted by the normalization of the site, as `conditional`."""
    apart = sites_apart(stack.layers[0].visible)
    total = log_total = v.new_full((), -math.inf)
    for field in visible_fields(stack, v, known, steps, discard, generator):
        log_p = log_probabilities(apart, values, field)
        log_w = log_partitions(apart, field)[0] if is_weighted and len(stack.layers) == 1 else torch.zeros_like(log_p)
        total, log_total = torch.logaddexp(total, log_p + log_w), torch.logaddexp(log_total, log_w)
    return total - log_total


def _log_scale(stack: DBN, is_divided: bool) -> Tensor:
    """log |∂x/∂v| of each site that has a density, 0 of others: (sites,)."""
    spread = stack.scaling.spread
    of_all = stack.layers[0].weight.new_zeros(stack.sizes[0]) if spread is None else spread.log()
    of_all = of_all + (math.log(stack.scaling.divisor) if is_divided else 0.0)

    def of(each: Apart) -> Tensor:
        own = each.split(of_all)[..., 0]
        return torch.zeros_like(own) if each.sites else own

    return torch.cat([of(each) for each in sites_apart(stack.layers[0].visible)])
