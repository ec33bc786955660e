"""p(y | x) and samples of a label model against sums over all its states."""

from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor

from dbn.errors import InputError
from dbn.models import RBM, Bernoulli
from dbn.models.label_model import LabelModel, class_fields, class_scores, label_rbm
from dbn.models.scaling import Scaling
from dbn.models.units.naming import make_units
from tests.enumeration import CHANCE, KINDS, SIZES, Z, randomize, rng, support

CLASSES = 3


def make_model(features: str = "bernoulli", hidden: str = "bernoulli", spread: float = 0.7) -> LabelModel:
    rbm = label_rbm(features, SIZES[features], make_units(hidden, SIZES[hidden]), CLASSES).double()
    randomize(rbm, 0, spread)
    return LabelModel(rbm, ["a", "b", "c"]).requires_grad_(False)


def log_joint(model: LabelModel, x: Tensor) -> Tensor:
    """log p(x, y) + log Z by a sum over the hidden states, (B, C)."""
    rbm = model.rbm
    h, weight = support(rbm.hidden)
    columns = []
    for y in torch.eye(CLASSES, dtype=x.dtype):
        v = torch.cat([x, y.expand(len(x), CLASSES)], 1)
        energy = rbm.visible.energy(v)[:, None] + rbm.hidden.energy(h) - v @ rbm.weight.T @ h.T
        columns.append((weight - energy).logsumexp(1))
    return torch.stack(columns, 1)


@pytest.mark.parametrize(("features", "hidden"), list(product(["bernoulli", "gaussian", "spin"], KINDS)))
def test_class_probabilities_are_those_of_the_joint_distribution(features: str, hidden: str) -> None:
    model = make_model(features, hidden, spread=0.3)
    x = torch.randn(4, SIZES[features], generator=rng(1), dtype=torch.float64)
    x = model.rbm.visible.sample(torch.cat([x, x.new_zeros(4, CLASSES)], 1), rng(2))[:, :-CLASSES]
    scores = class_scores(model.rbm, class_fields(model.rbm, x, CLASSES))
    torch.testing.assert_close(scores.log_softmax(1), log_joint(model, x).log_softmax(1), rtol=0, atol=1e-9)


def test_rows_are_classified_by_the_free_energy_of_each_class() -> None:
    model = make_model()
    x = support(Bernoulli(3))[0]
    energies = [model.rbm.free_energy(torch.cat([x, y.expand(8, 3)], 1)) for y in torch.eye(3, dtype=x.dtype)]
    torch.testing.assert_close(model.predict_proba(x), torch.stack(energies, 1).neg().softmax(1))
    assert model.predict(x) == ["abc"[place] for place in torch.stack(energies, 1).argmin(1).tolist()]


def test_a_part_at_a_time_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make_model(), support(Bernoulli(3))[0]
    whole = model.predict_proba(x)
    monkeypatch.setattr("dbn.models.label_model.ROWS_AT_ONCE", 3)
    torch.testing.assert_close(model.predict_proba(x), whole)


@pytest.mark.parametrize("label", ["a", "c", None])
def test_samples_have_the_distribution_of_rows_of_that_class(label: str | None) -> None:
    """Through a layer below whose means are its inputs."""
    model = make_model()
    copying = RBM(Bernoulli(3), Bernoulli(3)).double()
    with torch.no_grad():
        copying.weight.copy_(80 * torch.eye(3))
        copying.visible.bias.fill_(-40)
        copying.hidden.bias.fill_(-40)
    deep = LabelModel(model.rbm, model.classes, [copying]).requires_grad_(False)
    n = 4000
    draws = deep.sample(n, label=label, steps=30, generator=rng(3), draws=True)
    x = support(Bernoulli(3))[0]
    joint = log_joint(model, x)
    p = (joint.logsumexp(1) if label is None else joint[:, model.place_of(label)]).softmax(0)
    counts = torch.stack([(draws == state).all(1).sum() for state in x])
    assert counts.sum() == n
    assert stats.chi2.sf(float(((counts - n * p) ** 2 / (n * p)).sum()), len(p) - 1) > CHANCE


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_the_means_of_samples_average_to_the_mean_of_the_class(label: str) -> None:
    """E[x | h] over h ~ p(h | y) has the mean E[x | y], and a variance below that of x."""
    model, n = make_model(), 4000
    means = model.sample(n, label=label, steps=30, generator=rng(3))
    x = support(Bernoulli(3))[0]
    p = log_joint(model, x)[:, model.place_of(label)].softmax(0)
    error = means.std(0) / n**0.5
    assert ((means.mean(0) - p @ x).abs() < Z * error).all()
    assert (means.var(0) < (p @ x) * (1 - p @ x)).all()


def test_features_come_down_by_means_and_draws_by_states() -> None:
    model = make_model(spread=0.0)
    below = RBM(Bernoulli(2), Bernoulli(3)).double()
    randomize(below, 1)
    deep = LabelModel(model.rbm, model.classes, [below]).requires_grad_(False)
    samples = deep.sample(5, label="a", steps=2, generator=rng())
    torch.testing.assert_close(samples, below.down(torch.full((5, 3), 0.5)))
    draws = deep.sample(5, label="a", steps=2, generator=rng(), draws=True)
    assert below.visible.in_support(draws)


def test_samples_start_at_rows_where_they_are_given() -> None:
    model = make_model(spread=0.0)
    model.rbm.weight[:, :3] = 80 * torch.eye(3)
    model.rbm.visible.bias[:3] = model.rbm.hidden.bias[:] = -40
    start = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert model.sample(2, label="b", steps=3, start=start).round().equal(start)


def test_the_features_are_those_of_the_layers_below_and_bytes_are_scaled() -> None:
    below = RBM(Bernoulli(4), Bernoulli(3))
    randomize(below, 1)
    rbm = label_rbm("bernoulli", 3, Bernoulli(2), 2)
    randomize(rbm, 2)
    deep = LabelModel(rbm, ["0", "1"], [below], Scaling(255.0, stored="bytes")).requires_grad_(False)
    x = torch.randint(0, 256, (6, 4), generator=rng(), dtype=torch.uint8)
    alone = LabelModel(rbm, ["0", "1"]).requires_grad_(False)
    assert deep.predict_proba(x).equal(alone.predict_proba(below.up(x / 255)))
    assert deep.sample(5, label=1, steps=2).shape == (5, 4)


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    model = make_model()
    with pytest.raises(InputError, match=r"there is no class 'd', only 'a', 'b', 'c': name one of them"):
        model.sample(2, label="d")
    with pytest.raises(InputError, match="at least one Gibbs step"):
        model.sample(2, label="a", steps=0)
    with pytest.raises(InputError, match="takes rows of 3 values"):
        model.predict_proba(torch.zeros(2, 4))
    with pytest.raises(InputError, match="3 samples need 3 starting points, not 2"):
        model.sample(3, start=torch.zeros(2, 3))
    with pytest.raises(InputError, match="make the RBM with label_rbm"):
        LabelModel(model.rbm, ["a", "b"])
    with pytest.raises(InputError, match="cannot feed"):
        LabelModel(model.rbm, model.classes, [RBM(Bernoulli(5), Bernoulli(4))])
