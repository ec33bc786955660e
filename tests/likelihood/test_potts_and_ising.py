"""What stacks learn of Ising and Potts models whose probabilities are known, from draws of an exact sampler."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from enumeration import Z, rng
from torch import Tensor

import dbn
from dbn.likelihood import exact
from dbn.models.rbm import RBM

pytestmark = pytest.mark.slow

CRITICAL = math.log(1 + math.sqrt(2)) / 2
"""The inverse temperature of the square lattice's phase transition, 0.4407: Onsager (1944)."""
N = 10_000


class Ising(NamedTuple):
    """All states (2^16, 16), the energy of each per β, and log p."""

    states: Tensor
    energy: Tensor
    log_p: Tensor


def ising(bonds: list[tuple[int, int]], beta: float = CRITICAL, n: int = 16) -> Ising:
    states = 2.0 * (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).double() - 1
    energy = -sum((states[:, i] * states[:, j] for i, j in bonds), torch.zeros(2**n, dtype=torch.float64))
    return Ising(states, energy, (-beta * energy).log_softmax(0))


CHAIN = [(i, (i + 1) % 16) for i in range(16)]
SQUARE = [
    (4 * row + column, 4 * ((row + down) % 4) + (column + right) % 4)
    for row in range(4)
    for column in range(4)
    for down, right in ((0, 1), (1, 0))
]


@pytest.mark.parametrize(("bonds", "hidden"), [(CHAIN, 16), (SQUARE, 32)], ids=["16", "4x4"])
def test_an_ising_model_at_the_critical_temperature_is_learned(bonds: list[tuple[int, int]], hidden: int) -> None:
    truth = ising(bonds)
    data = truth.states[torch.multinomial(truth.log_p.exp(), N, replacement=True, generator=rng(1))]
    rbm = trained(data, hidden, "spin", learning_rate="0.1:0", weight_decay=0.0, l1=3e-4)
    log_z = exact.log_partition(rbm)
    log_q = exact.log_likelihood(rbm, truth.states.float(), log_z).double()
    kl = float(truth.log_p.exp() @ (truth.log_p - log_q))
    print(f"KL {kl:.4f} nats")
    assert 0 <= kl <= 0.02
    draws = exact.sample(rbm, N, rng(2)).double()
    index = ((draws > 0).long() << torch.arange(16)).sum(1)
    for values in (truth.energy, truth.states.sum(1), truth.states.sum(1).abs()):
        mean = truth.log_p.exp() @ values
        error = (truth.log_p.exp() @ (values - mean) ** 2 / N * 2).sqrt()  # of the data and of the draws
        assert (values[index].mean() - mean).abs() < Z * error


def trained(x: Tensor, hidden: int, visible: str, **options: Any) -> RBM:
    """By PCD, with binary hidden units for categories and spins for spins."""
    usual: dict[str, Any] = {"estimator": "pcd", "epochs": 60, "batch_size": 100, "chains": 500, "measure_every": 60}
    kind = "spin" if visible == "spin" else "bernoulli"
    return dbn.train_rbm(x.float(), hidden, visible=visible, hidden_units=kind, device="cpu", **usual | options)


def potts(states: int, length: int, n: int, coupling: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draws (n, length) of an open chain p(x) ∝ exp(coupling·Σ [x_i = x_{i+1}] + Σ field(x_i)), site by site.

    And its first probabilities (q,) and transitions (length − 1, q, q), by sums from the end.
    """
    field = torch.linspace(-0.5, 0.5, states, dtype=torch.float64)
    bond = coupling * torch.eye(states, dtype=torch.float64)
    message, steps = torch.zeros(states, dtype=torch.float64), []
    for _ in range(length - 1):
        joint = bond + (field + message)  # over the state of the next site
        steps.append(joint.softmax(1))
        message = joint.logsumexp(1)
    first, generator = (field + message).softmax(0), rng(3)
    sites = [torch.multinomial(first, n, replacement=True, generator=generator)]
    for step in reversed(steps):
        sites.append(torch.multinomial(step[sites[-1]], 1, generator=generator)[:, 0])
    return torch.stack(sites, 1), first, torch.stack(steps[::-1])


def pairs_of_sites(first: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """p(x_i), (length, q), and p(x_i, x_j) for all i < j, (pairs, q, q), of the chain with these transitions."""
    one, two = [first], []
    for step in steps:
        one.append(one[-1] @ step)
    for i, p in enumerate(one):
        joint = p.diag()
        for step in steps[i:]:
            joint = joint @ step
            two.append(joint)
    return torch.stack(one), torch.stack(two)


@pytest.mark.parametrize(("states", "length", "hidden", "coupling"), [(3, 6, 20, 1.5), (21, 5, 105, 3.0)])
def test_a_potts_chain_is_learned(states: int, length: int, hidden: int, coupling: float) -> None:
    """By a hidden unit for each color of a site: 18 for all of 21 colors stay some 0.4 nats from the truth."""
    n = 2 * N
    x, first, steps = potts(states, length, n + N, coupling)
    x, fresh = x.split([n, N])
    rbm = trained(x, hidden, f"categorical(states={states})", learning_rate="1:0", weight_decay=0.0)

    def one_hot(x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(x, states).flatten(1).float()

    hot = rbm.gibbs(one_hot(fresh), 200, rng(4))
    assert rbm.visible.in_support(hot)
    sites = hot.double().unflatten(1, (length, states)).unbind(1)
    one, two = pairs_of_sites(first, steps)
    seen_pairs = torch.stack([a.T @ b / N for i, a in enumerate(sites) for b in sites[i + 1 :]])
    for seen, p in ((torch.stack(sites, 1).mean(0), one), (seen_pairs, two)):
        z = (seen - p) / (p * (1 - p) * (1 / n + 1 / N)).sqrt()  # the error of the data and of the draws
        print(f"{p.numel()} frequencies, largest z {float(z.abs().max()):.2f}, mean square {float((z**2).mean()):.2f}")
        assert z.abs().max() < Z + 1

    log_p = first.log()[fresh[:, 0]]
    for i, step in enumerate(steps):
        log_p += step.log()[fresh[:, i], fresh[:, i + 1]]
    found = exact.log_likelihood(rbm, one_hot(fresh), exact.log_partition(rbm)).double()
    print(f"log-likelihood {float(found.mean()):.4f}, of the truth {float(log_p.mean()):.4f} nats")
    assert abs(float((found - log_p).mean())) < 0.2
