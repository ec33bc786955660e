"""What others do instead, on floats that need no converting; raises ImportError for a package that is not there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dbn.benchmarks.running import Runner, Setting, clocked, repeated


class TutorialRBM:
    """CD-1 with momentum and weight decay as tutorials write it, and the update that ours makes by default.

    `weight` is (V, H). The hidden units of the data are drawn, the rest are probabilities.
    """

    def __init__(self, visible: int, hidden: int) -> None:
        self.weight = 0.01 * torch.randn(visible, hidden)
        self.visible_bias, self.hidden_bias = torch.zeros(visible), torch.zeros(hidden)
        self.weight_step = torch.zeros_like(self.weight)
        self.visible_step, self.hidden_step = torch.zeros(visible), torch.zeros(hidden)

    def step(self, v0: Tensor, rate: float = 0.1, momentum: float = 0.5, decay: float = 2e-4) -> None:
        """One update by a batch (B, V)."""
        h0 = torch.sigmoid(v0 @ self.weight + self.hidden_bias)
        v1 = torch.sigmoid(torch.bernoulli(h0) @ self.weight.T + self.visible_bias)
        h1 = torch.sigmoid(v1 @ self.weight + self.hidden_bias)
        gradient = (v0.T @ h0 - v1.T @ h1) / len(v0)
        self.weight_step = momentum * self.weight_step + gradient - decay * self.weight
        self.visible_step = momentum * self.visible_step + (v0 - v1).mean(0)
        self.hidden_step = momentum * self.hidden_step + (h0 - h1).mean(0)
        self.weight += rate * self.weight_step
        self.visible_bias += rate * self.visible_step
        self.hidden_bias += rate * self.hidden_step


def tutorial_step(setting: Setting) -> Runner:
    """A tutorial's updates by one batch that is there already."""
    rbm, x = TutorialRBM(setting.visible, setting.hidden), torch.rand(setting.batch_size, setting.visible)
    return Runner(repeated(lambda: rbm.step(x), setting.steps), setting.steps, rbm)


def tutorial_epoch(setting: Setting) -> Runner:
    """A tutorial's epoch: rows in a new order, cut into batches."""
    rbm, x = TutorialRBM(setting.visible, setting.hidden), torch.rand(setting.examples, setting.visible)

    def epoch() -> None:
        for indices in torch.randperm(len(x)).split(setting.batch_size):
            rbm.step(x[indices])

    return Runner(clocked(epoch), setting.steps, rbm)


def scikit_learn(setting: Setting) -> Runner:
    """An epoch of BernoulliRBM.fit (PCD-1, in order, plain steps) in float32.

    `fit` starts from new weights each time, so what it does with a batch is called, which spares it their drawing.
    """
    import numpy as np
    from sklearn.neural_network import BernoulliRBM

    x = np.random.default_rng(0).random((setting.examples, setting.visible), dtype=np.float32)
    rbm = BernoulliRBM(n_components=setting.hidden, batch_size=setting.batch_size, n_iter=1, random_state=0)
    rbm.fit(x[: setting.batch_size])
    draws = np.random.RandomState(0)

    def epoch() -> None:
        for begin in range(0, len(x), setting.batch_size):
            rbm._fit(x[begin : begin + setting.batch_size], draws)

    return Runner(clocked(epoch), setting.steps, rbm)


def rbms(centered: bool) -> Callable[[Setting], Runner]:
    """PCD-1 as `rbms.training.pcd.train` does it, less the files and bars; centred is its default."""

    def make(setting: Setting) -> Runner:
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.training.pcd import fit_batch_pcd

        x, weights = torch.rand(setting.examples, setting.visible), torch.ones(setting.examples, 1)
        rbm = BBRBM(
            0.01 * torch.randn(setting.visible, setting.hidden),
            torch.zeros(setting.visible),
            torch.zeros(setting.hidden),
        )
        rbm.init_grad()
        optimizer = torch.optim.SGD(rbm.parameters(), lr=0.01, maximize=True)
        chains = [rbm.init_chains(setting.batch_size)]

        @torch.no_grad()
        def step() -> None:
            rows = torch.randperm(len(x))[: setting.batch_size]
            optimizer.zero_grad(set_to_none=False)
            chains[0], _ = fit_batch_pcd((x[rows], weights[rows]), chains[0], rbm, 1, 1.0, centered=centered)
            optimizer.step()

        return Runner(repeated(step, setting.steps), setting.steps, rbm)

    return make


def learnergy_rbm(setting: Setting) -> Any:
    """CD-1 with our momentum and weight decay."""
    from learnergy.models.bernoulli import RBM

    return RBM(setting.visible, setting.hidden, steps=1, learning_rate=0.1, momentum=0.5, decay=2e-4)


def learnergy_epoch(setting: Setting) -> Runner:
    """`RBM.fit`, with its DataLoader and the pseudo-likelihood of every batch, which cannot be had without."""
    rbm = learnergy_rbm(setting)
    data = torch.utils.data.TensorDataset(torch.rand(setting.examples, setting.visible), torch.zeros(setting.examples))
    work = clocked(lambda: rbm.fit(data, batch_size=setting.batch_size, epochs=1))
    return Runner(work, setting.steps, rbm)


def learnergy_step(setting: Setting) -> Runner:
    """What learns in a batch of `RBM.fit`, and nothing else, by one batch that is there already."""
    rbm, x = learnergy_rbm(setting), torch.rand(setting.batch_size, setting.visible)

    def step() -> None:
        negatives = rbm.gibbs_sampling(x)[-1].detach()
        cost = rbm.energy(x).mean() - rbm.energy(negatives).mean()
        rbm.optimizer.zero_grad()
        cost.backward()
        rbm.optimizer.step()

    return Runner(repeated(step, setting.steps), setting.steps, rbm)
