"""What is measured, against direct computation and scipy."""

import math

import pytest
import torch
from enumeration import make_rbm, marginals, rng
from scipy import stats
from torch import Tensor, nn

from dbn.errors import InputError
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.pretraining.metrics import layer_metrics
from dbn.statistics import mean_interval, paired_t_test
from dbn.tasks.metrics import predict, score

KINDS = ["bernoulli", "gaussian"]


def rows(rbm: RBM, n: int, seed: int) -> Tensor:
    x = torch.rand(n, rbm.visible.size, generator=rng(seed)).double()
    return x if rbm.visible.kind == "bernoulli" else 3 * x - 1


@pytest.mark.parametrize("kind", KINDS)
def test_free_energy_gap_and_activity(kind: str) -> None:
    rbm = make_rbm(kind, "bernoulli")
    with torch.no_grad():
        rbm.hidden.bias.copy_(torch.tensor([-30.0, 0.3, 30.0]))
    train, valid = rows(rbm, 1500, 1), rows(rbm, 30, 2)  # more than one slice
    found = layer_metrics(rbm, train, valid, rng())
    with torch.no_grad():
        gap = rbm.free_energy(valid).mean() - rbm.free_energy(train).mean()
        assert found["free_energy_gap"] == pytest.approx(gap.item(), abs=1e-5)
        assert found["hidden_activity"] == pytest.approx(rbm.up(train).mean().item(), rel=1e-5)
    assert found["hidden_off"] == pytest.approx(1 / 3)
    assert found["hidden_on"] == pytest.approx(1 / 3)


def test_units_off_and_on_are_counted_by_their_mean() -> None:
    rbm = RBM(Bernoulli(2), Bernoulli(8))
    activity = torch.tensor([0.009, 0.011, 0.05, 0.5, 0.95, 0.989, 0.991, 0.999])
    with torch.no_grad():
        rbm.hidden.bias.copy_(activity.logit())
    found = layer_metrics(rbm, torch.rand(9, 2, generator=rng()), None, rng())
    assert (found["hidden_off"], found["hidden_on"]) == (1 / 8, 2 / 8)
    assert found["hidden_activity"] == pytest.approx(activity.mean().item())


def saturated(kind: str) -> RBM:
    """Hidden units that are on exactly where their visible unit is above one half, so that no draw is by chance."""
    rbm = make_rbm(kind, "bernoulli")
    size = rbm.visible.size
    with torch.no_grad():
        rbm.weight.zero_()
        rbm.weight[:size] = 1000 * torch.eye(size)
        rbm.hidden.bias.fill_(-500.0)
        rbm.visible.bias.fill_(-300.0)
    return rbm


def by_hand(rbm: RBM, x: Tensor) -> tuple[float, float]:
    h = torch.zeros(len(x), rbm.hidden.size, dtype=x.dtype)
    h[:, : x.shape[1]] = (x > 0.5).to(x.dtype)
    with torch.no_grad():
        if rbm.visible.kind == "bernoulli":  # the fields are ±300 and more: x̂ is exactly 0 or 1
            x_hat = h[:, : x.shape[1]]
            step = torch.finfo(x.dtype).eps
            p = x_hat.clamp(step, 1 - step)
            kl = x * (x / p).log() + (1 - x) * ((1 - x) / (1 - p)).log()
        else:
            precision = rbm.visible.natural()["precision"]
            x_hat = (1000 * h[:, : x.shape[1]] - 300) / precision
            kl = precision * (x - x_hat) ** 2 / 2
    return ((x - x_hat) ** 2).sum(1).mean().item(), kl.sum(1).mean().item()


@pytest.mark.parametrize("kind", KINDS)
def test_reconstruction_error_and_kl(kind: str) -> None:
    rbm = saturated(kind)
    train, valid = rows(rbm, 1500, 1), rows(rbm, 30, 2)
    # Away from one half by more than what the sigmoid still lets chance decide.
    train, valid = (x + 0.1 * (x - 0.5).sign() * ((x - 0.5).abs() < 0.1) for x in (train, valid))
    found = layer_metrics(rbm, train, valid, rng())
    assert (found["reconstruction_error"], found["kl"]) == pytest.approx(by_hand(rbm, train), rel=1e-5)
    assert (found["valid_reconstruction_error"], found["valid_kl"]) == pytest.approx(by_hand(rbm, valid), rel=1e-5)


def test_the_error_of_chance_reconstructions() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    x = torch.tensor([[1.0, 0.0, 1.0]]).double().expand(40_000, 3)
    (_, _), (h, _) = marginals(rbm)
    with torch.no_grad():
        p_on = rbm.up(x[:1])
        p = (p_on * h + (1 - p_on) * (1 - h)).prod(1)
        errors = ((x[0] - rbm.down(h)) ** 2).sum(1)
    mean, deviation = p @ errors, (p @ errors**2 - (p @ errors) ** 2).sqrt()
    found = layer_metrics(rbm, x, None, rng(5))
    assert abs(found["reconstruction_error"] - mean.item()) < 5 * deviation.item() / len(x) ** 0.5
    assert set(found) == {"reconstruction_error", "kl", "hidden_activity", "hidden_off", "hidden_on"}


def test_measuring_draws_from_its_own_generator() -> None:
    rbm = RBM(Bernoulli(4), Bernoulli(3))
    x = torch.rand(9, 4, generator=rng())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert layer_metrics(rbm, x, x, rng(1)) == layer_metrics(rbm, x, x, rng(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_error_rate_by_hand() -> None:
    network = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    x = torch.tensor([[255, 0], [0, 255], [200, 100], [100, 200]], dtype=torch.uint8)
    assert score(network, Scaling(), x, torch.tensor([0, 1, 1, 1])).error == 25.0
    assert score(network, Scaling(), x, torch.tensor([0, 1, 0, 1])).error == 0.0
    logits = predict(network, Scaling(), x, chunk=3)
    torch.testing.assert_close(logits, network(x / 255).detach())
    assert not logits.requires_grad


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.1, 2.9, 3.4, 3.3, 2.2], [5.0, 5.0, 5.0]])
def test_the_interval_is_students(values: list[float]) -> None:
    mean, half_width = mean_interval(values)
    n = len(values)
    assert mean == pytest.approx(sum(values) / n)
    error = float(stats.sem(values))
    assert half_width == pytest.approx(error * float(stats.t.ppf(0.975, n - 1)))


def test_one_value_has_no_interval() -> None:
    assert mean_interval([4.5]) == (4.5, None)
    with pytest.raises(InputError, match="at least one value"):
        mean_interval([])


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0, 2.0], [1.5, 2.1]), ([3.0, 2.9, 3.4, 3.3], [4.1, 3.9, 4.6, 4.2]), ([1.0, 2.0, 3.0], [2.0, 1.0, 3.0])],
)
def test_the_paired_test_is_students(a: list[float], b: list[float]) -> None:
    assert paired_t_test(a, b) == pytest.approx(float(stats.ttest_rel(a, b).pvalue))
    assert paired_t_test(b, a) == pytest.approx(paired_t_test(a, b))


def test_the_paired_test_of_equal_differences() -> None:
    assert paired_t_test([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert paired_t_test([1.0, 2.0], [2.0, 3.0]) is None
    errors = [100 * wrong / 30 for wrong in (1, 2, 4)]
    assert paired_t_test(errors, [each + 10 / 3 for each in errors]) is None  # whatever the rounding
    for a, b in (([1.0], [2.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(InputError, match="two lists of the same length"):
            paired_t_test(a, b)


def test_log_of_zero_is_never_taken() -> None:
    rbm = RBM(Bernoulli(2), Bernoulli(1))
    with torch.no_grad():
        rbm.visible.bias.copy_(torch.tensor([200.0, -200.0]))
    found = layer_metrics(rbm, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None, rng())
    assert found["reconstruction_error"] == 1.0
    assert math.isfinite(found["kl"])
    assert found["kl"] > 10
