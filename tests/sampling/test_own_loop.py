"""A training loop written with the public functions alone."""

import pytest
import torch
from enumeration import randomize, rng
from test_chains import bars_and_stripes

import dbn.likelihood
import dbn.sampling
from dbn.models import RBM, Bernoulli

ESTIMATORS = {
    "cd": lambda: dbn.sampling.DataChains(steps=1),
    "pcd": lambda: dbn.sampling.PersistentChains(steps=1, chains=100),
    "pt": lambda: dbn.sampling.TemperedChains(steps=1, chains=100, temperatures=10),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_three_hundred_steps_raise_the_exact_log_likelihood_of_bars_and_stripes_by_1_9_nats(estimator: str) -> None:
    """From about −6.3 nats, near those of independent pixels; the best any model can reach is −log 14 = −2.64."""
    v = bars_and_stripes()
    rbm, generator = RBM(Bernoulli(9), Bernoulli(16)), torch.Generator().manual_seed(0)
    randomize(rbm, 0, spread=0.1)

    def log_likelihood() -> float:
        return float(dbn.likelihood.log_likelihood(rbm, v, dbn.likelihood.log_partition(rbm)).mean())

    before = log_likelihood()
    chains = ESTIMATORS[estimator]()
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.4)
    for _ in range(300):
        dbn.likelihood.set_gradient(rbm, v, chains.negatives(rbm, v, rbm.hidden_field(v), generator).states)
        optimizer.step()
    assert before == pytest.approx(-6.3, abs=0.2)
    assert log_likelihood() - before > 1.9


def test_the_same_generator_gives_the_same_weights() -> None:
    weights = []
    for _ in range(2):
        rbm = RBM(Bernoulli(9), Bernoulli(4))
        randomize(rbm, 0)
        chains, generator = dbn.sampling.PersistentChains(), rng(3)
        optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
        v = bars_and_stripes()
        for _ in range(5):
            dbn.likelihood.set_gradient(rbm, v, chains.negatives(rbm, v, rbm.hidden_field(v), generator).states)
            optimizer.step()
        weights.append(rbm.weight.detach().clone())
    assert torch.equal(*weights)


def test_defaults_are_the_documented_ones() -> None:
    pcd, pt = dbn.sampling.PersistentChains(), dbn.sampling.TemperedChains()
    assert (dbn.sampling.DataChains().steps, pcd.steps, pcd.chains, pt.steps, pt.chains) == (1, 1, 100, 1, 100)
    assert pt.betas == tuple(i / 9 for i in range(10))
