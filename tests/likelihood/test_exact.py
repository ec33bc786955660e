"""Exact values of every pair of unit types against sums over all states of both sides."""

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from enumeration import (
    CHANCE,
    DISCRETE,
    PAIRS,
    Z,
    draw,
    histogram_chance,
    joint,
    make_rbm,
    marginals,
    mirrored,
    rng,
    support,
    z_scores,
)
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from dbn.errors import InputError
from dbn.likelihood import exact
from dbn.models.rbm import RBM
from dbn.models.units.base import Units
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian

TWO_LINES = [*product(("relu", "drelu"), ("relu", "drelu", "gaussian")), ("gaussian", "relu"), ("gaussian", "drelu")]
"""Pairs of which nothing is exact."""
EXACT = [pair for pair in PAIRS if pair not in TWO_LINES]

each_exact_pair = pytest.mark.parametrize(("visible", "hidden"), EXACT)
each_discrete_pair = pytest.mark.parametrize(("visible", "hidden"), [pair for pair in PAIRS if pair[0] in DISCRETE])
each_listed_pair = pytest.mark.parametrize(("visible", "hidden"), [pair for pair in PAIRS if {*DISCRETE} & {*pair}])
each_chunk = pytest.mark.parametrize("rows", [1, 3, 7, 8, 1000])
"""How many of the 8 states a chunk takes."""

CALLS: dict[str, Callable[[RBM], object]] = {
    "log_partition": exact.log_partition,
    "divergence": lambda rbm: exact.divergence(rbm, torch.zeros(1, rbm.visible.size)),
    "set_exact_gradient": lambda rbm: exact.set_exact_gradient(rbm, torch.zeros(1, rbm.visible.size)),
    "sample": lambda rbm: exact.sample(rbm, 2, rng()),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that anything gave."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return result


def take_chunks(monkeypatch: pytest.MonkeyPatch, rbm: RBM, rows: int) -> None:
    monkeypatch.setattr(exact, "MAX_ELEMENTS", rows * max(rbm.weight.shape))


def exact_log_z(rbm: RBM) -> float:
    return float(brute_log_z(rbm).detach())


def brute_log_z(rbm: RBM) -> Tensor:
    return joint(rbm)[2].flatten().logsumexp(0)


def examples(rbm: RBM, n: int = 40) -> Tensor:
    """Data of another model than the one that is asked."""
    (states, p), _ = marginals(make_rbm(rbm.visible.spec, rbm.hidden.spec, seed=8))
    return draw(states, p, n, rng(9))


def coupled(visible: Units, hidden: Units, seed: int = 1) -> RBM:
    rbm = RBM(visible, hidden)
    generator = rng(seed)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(0.0, 0.6, generator=generator)
    return rbm


def blocks(number: int, visible_size: int, hidden_size: int) -> tuple[RBM, list[RBM]]:
    """An RBM of independent small ones, its units shuffled, and these."""
    parts = [coupled(Bernoulli(visible_size), Bernoulli(hidden_size), seed).double() for seed in range(number)]
    rbm = RBM(Bernoulli(number * visible_size), Bernoulli(number * hidden_size)).double()
    v, h = (torch.randperm(side.size, generator=rng(3)) for side in (rbm.visible, rbm.hidden))
    with torch.no_grad():
        rbm.weight.copy_(torch.block_diag(*[part.weight for part in parts])[h][:, v])
        rbm.visible.bias.copy_(torch.cat([part.visible.bias for part in parts])[v])
        rbm.hidden.bias.copy_(torch.cat([part.hidden.bias for part in parts])[h])
    return rbm, parts


@each_exact_pair
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_log_partition_is_the_sum_over_both_sides(visible: str, hidden: str, seed: int) -> None:
    rbm = make_rbm(visible, hidden, seed)
    assert exact.log_partition(rbm) == pytest.approx(exact_log_z(rbm), rel=0, abs=1e-8)


@each_listed_pair
@each_chunk
def test_log_partition_does_not_depend_on_the_chunks(
    visible: str, hidden: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = make_rbm(visible, hidden)
    take_chunks(monkeypatch, rbm, rows)
    assert exact.log_partition(rbm) == pytest.approx(exact_log_z(rbm), rel=0, abs=1e-8)


@pytest.mark.parametrize(("visible_size", "hidden_size"), [(3, 9), (9, 3), (6, 6)])
def test_either_side_gives_the_same_log_partition_and_the_shorter_is_listed(
    visible_size: int, hidden_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = coupled(Bernoulli(visible_size), Bernoulli(hidden_size)).double()
    v = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * visible_size)
    by_visible = float((-rbm.free_energy(v)).logsumexp(0).detach())
    listed: list[int] = []
    free_energy = RBM.free_energy

    def counting(self: RBM, states: Tensor) -> Tensor:
        listed.append(len(states))
        return free_energy(self, states)

    monkeypatch.setattr(RBM, "free_energy", counting)
    assert exact.log_partition(rbm) == pytest.approx(by_visible, rel=0, abs=1e-11)
    assert exact.log_partition(mirrored(rbm)) == pytest.approx(by_visible, rel=0, abs=1e-11)
    assert listed == [2 ** min(visible_size, hidden_size)] * 2


def test_single_precision_parameters_are_summed_in_double() -> None:
    rbm = coupled(Bernoulli(30), Bernoulli(8))
    with torch.no_grad():
        rbm.visible.bias.add_(40.0)
    log_z = exact.log_partition(rbm)
    assert log_z > 1000, "where single precision has steps of 1e-4"
    assert log_z == pytest.approx(exact.log_partition(copy.deepcopy(rbm).double()), rel=0, abs=1e-9)
    assert {parameter.dtype for parameter in rbm.parameters()} == {torch.float32}, "the model itself was converted"


def test_weights_too_strong_for_a_plain_sum_of_exponentials() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    with torch.no_grad():
        rbm.weight.mul_(1000)
    assert exact_log_z(rbm) > 1000
    assert exact.log_partition(rbm) == pytest.approx(exact_log_z(rbm), rel=1e-13)


@pytest.mark.parametrize("wide", [Bernoulli, Gaussian])
def test_twenty_units_against_thirty_in_bounded_memory(wide: type[Units]) -> None:
    """Five independent machines of 4 × 6 units; then one of 12 beside 784, uncoupled: both Z are products."""
    rbm, parts = blocks(5, 4, 6)
    with Largest() as largest:
        assert exact.log_partition(rbm) == pytest.approx(sum(exact.log_partition(part) for part in parts), rel=1e-12)
    assert 30_000 < largest.size <= exact.MAX_ELEMENTS < 2**20 * 20
    rbm = RBM(coupled(wide(784), Bernoulli(1)).visible, coupled(Bernoulli(12), Bernoulli(1)).visible).double()
    alone = [float(side.log_partition(torch.zeros(1, side.size)).detach()) for side in (rbm.visible, rbm.hidden)]
    with Largest() as largest:
        assert exact.log_partition(rbm) == pytest.approx(sum(alone), rel=1e-12)
    assert largest.size <= exact.MAX_ELEMENTS < 2**12 * 784


@each_exact_pair
def test_the_likelihood_sums_to_one(visible: str, hidden: str) -> None:
    rbm = make_rbm(visible, hidden)
    states, log_weight = support(rbm.visible)
    log_p = exact.log_likelihood(rbm, states, exact.log_partition(rbm))
    assert log_p.shape == (len(states),)
    assert float((log_p + log_weight).exp().sum()) == pytest.approx(1, abs=1e-8)
    (_, p), _ = marginals(rbm)
    assert_close((log_p + log_weight).exp(), p, rtol=1e-7, atol=1e-15)


@each_chunk
def test_the_likelihood_does_not_depend_on_the_chunks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rbm = make_rbm("bernoulli", "gaussian")
    whole = exact.log_likelihood(rbm, examples(rbm), 1.0)
    assert_close(whole, -rbm.free_energy(examples(rbm)).detach() - 1.0)
    take_chunks(monkeypatch, rbm, rows)
    assert_close(exact.log_likelihood(rbm, examples(rbm), 1.0), whole)


@each_discrete_pair
@each_chunk
def test_divergence_is_the_sum_over_states(
    visible: str, hidden: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = make_rbm(visible, hidden)
    (states, p), _ = marginals(rbm)
    take_chunks(monkeypatch, rbm, rows)
    for n in (1, 2, 40):
        data = examples(rbm, n)
        q = (data[:, None] == states).all(2).double().mean(0)
        direct = float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())
        assert exact.divergence(rbm, data) == pytest.approx(direct, rel=1e-9)
        assert exact.divergence(rbm, torch.cat([data, data.flip(0)])) == pytest.approx(direct, rel=1e-9)
        assert direct > 0


def test_data_that_are_the_model_have_no_divergence() -> None:
    rbm = RBM(Bernoulli(3), Bernoulli(2))
    states, _ = support(rbm.visible)
    assert exact.divergence(rbm, states.float()) == pytest.approx(0, abs=1e-12)
    assert exact.divergence(rbm, states[1:].bool()) == pytest.approx(math.log(8 / 7))


@each_exact_pair
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("rows", [3, 1000])
def test_the_gradient_is_that_of_the_enumerated_likelihood(
    visible: str, hidden: str, grey: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = make_rbm(visible, hidden)
    data = examples(rbm)
    if grey:
        data = data * 0.7 + 0.1
    names, parameters = zip(*rbm.named_parameters(), strict=True)
    slow = torch.autograd.grad(rbm.free_energy(data).mean() + brute_log_z(rbm), parameters)
    take_chunks(monkeypatch, rbm, rows)
    exact.set_exact_gradient(rbm, data)
    for name, parameter, gradient in zip(names, parameters, slow, strict=True):
        assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("visible_size", "hidden_size"), [(3, 7), (7, 3)])
def test_the_gradient_follows_the_longer_side(visible_size: int, hidden_size: int) -> None:
    rbm = coupled(Bernoulli(visible_size), Bernoulli(hidden_size)).double()
    data = torch.randint(0, 2, (20, visible_size), generator=rng(2)).double()
    v = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * visible_size)
    objective = rbm.free_energy(data).mean() + (-rbm.free_energy(v)).logsumexp(0)
    slow = torch.autograd.grad(objective, list(rbm.parameters()))
    exact.set_exact_gradient(rbm, data)
    for parameter, gradient in zip(rbm.parameters(), slow, strict=True):
        assert_close(parameter.grad, gradient)


def test_the_gradient_of_a_wide_gaussian_pair() -> None:
    """Its two sides differ in size, and quadrature cannot follow: log Z is that of the joint Gaussian."""
    rbm = coupled(Gaussian(5), Gaussian(3)).double()
    with torch.no_grad():
        rbm.weight.mul_(0.3)
    assert rbm.has_partition()
    data = torch.randn(20, 5, dtype=torch.float64, generator=rng(2))
    precision = torch.diag(torch.cat([rbm.visible.quadratic_precision(), rbm.hidden.quadratic_precision()]))
    coupling = torch.zeros_like(precision)
    coupling[5:, :5] = rbm.weight
    precision = precision - coupling - coupling.T
    bias = torch.cat([rbm.visible.bias, rbm.hidden.bias])
    log_z = 0.5 * (bias @ torch.linalg.solve(precision, bias) + 8 * math.log(2 * math.pi) - torch.logdet(precision))
    assert exact.log_partition(rbm) == pytest.approx(float(log_z.detach()), rel=1e-12)
    slow = torch.autograd.grad(rbm.free_energy(data).mean() + log_z, list(rbm.parameters()))
    exact.set_exact_gradient(rbm, data)
    for parameter, gradient in zip(rbm.parameters(), slow, strict=True):
        assert_close(parameter.grad, gradient)


def test_the_gradient_replaces_what_was_there_in_the_precision_of_the_model() -> None:
    rbm = make_rbm("bernoulli", "gaussian")
    data = examples(rbm)
    exact.set_exact_gradient(rbm, data)
    wanted = [parameter.grad.float() for parameter in rbm.parameters() if parameter.grad is not None]
    single = make_rbm("bernoulli", "gaussian").float()
    for parameter in single.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    buffers = [parameter.grad for parameter in single.parameters()]
    exact.set_exact_gradient(single, data.float())
    assert all(parameter.grad is buffer for parameter, buffer in zip(single.parameters(), buffers, strict=True))
    assert_close(buffers, wanted)


@each_exact_pair
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_draws_have_the_moments_of_the_model(
    visible: str, hidden: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = make_rbm(visible, hidden)
    (states, p), _ = marginals(rbm)
    take_chunks(monkeypatch, rbm, rows)
    n = 400_000 if rows >= 10 else 10_000 if rows > 1 else 2_000
    draws = exact.sample(rbm, n, rng(4))
    assert draws.shape == (n, rbm.visible.size)
    # Each half alone: draws in the order of the list would pass as a whole.
    for half in draws.split(n // 2):
        assert z_scores(half, states, p).abs().max() < Z
    if visible in DISCRETE:
        assert histogram_chance(draws, states, p) > CHANCE


@pytest.mark.parametrize(("visible_size", "hidden_size"), [(4, 2), (4, 5)])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_draws_have_the_histogram_of_the_model_whichever_side_is_listed(
    visible_size: int, hidden_size: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rbm = coupled(Bernoulli(visible_size), Bernoulli(hidden_size))
    (states, p), _ = marginals(copy.deepcopy(rbm).double())
    take_chunks(monkeypatch, rbm, rows)
    draws = exact.sample(rbm, 10_000, rng(5))
    assert draws.dtype == torch.float32
    assert p.min() * len(draws) > 5, "too few of a state for the test's own formula"
    assert histogram_chance(draws, states, p) > CHANCE


def test_a_draw_says_nothing_of_the_next() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    draws = exact.sample(rbm, 40_000, rng(6))
    (states, p), _ = marginals(rbm)
    pairs = torch.cat([states.repeat_interleave(len(p), 0), states.repeat(len(p), 1)], 1)
    assert histogram_chance(torch.cat([draws[0::2], draws[1::2]], 1), pairs, torch.outer(p, p).flatten()) > CHANCE


def test_draws_follow_the_generator() -> None:
    for pair in EXACT:
        rbm = make_rbm(*pair)
        assert torch.equal(exact.sample(rbm, 50, rng(1)), exact.sample(rbm, 50, rng(1)))
        assert not torch.equal(exact.sample(rbm, 50, rng(1)), exact.sample(rbm, 50, rng(2)))


def test_draws_of_a_certain_state_are_that_state() -> None:
    rbm = RBM(Bernoulli(6), Bernoulli(4))
    state = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    with torch.no_grad():
        rbm.visible.bias.copy_(2000 * state - 1000)
    assert torch.equal(exact.sample(rbm, 100, rng()), state.expand(100, -1))


@each_call
@pytest.mark.parametrize("hidden", [Bernoulli, Gaussian])
def test_too_many_states_are_refused_before_anything_is_listed(
    call: Callable[[RBM], object], hidden: type[Units]
) -> None:
    rbm = RBM(Bernoulli(784), hidden(500))
    with Largest() as largest, pytest.raises(InputError, match=r"784 visible units with 2\^784.* AIS"):
        call(rbm)
    assert largest.size <= rbm.weight.numel()


@each_call
def test_the_longest_list_that_is_allowed(call: Callable[[RBM], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_STATES", 32)
    call(RBM(Bernoulli(5), Bernoulli(9)))
    call(RBM(Bernoulli(9), Bernoulli(5)))
    with pytest.raises(InputError, match=r"32 states, .* 6 visible units with 2\^6 and 9 hidden units with 2\^9"):
        call(RBM(Bernoulli(6), Bernoulli(9)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_energies_keep_double_precision(dtype: torch.dtype) -> None:
    """Fields from 18 to 45, about the threshold above which log(1 + eˣ) is x."""
    rbm = RBM(Bernoulli(3), Bernoulli(8))
    with torch.no_grad():
        rbm.weight.normal_(0.0, 1.0, generator=rng(1))
        rbm.hidden.bias.copy_(torch.linspace(18, 45, 8))
        rbm.visible.bias.copy_(torch.tensor([-3.0, 1.0, 2.0]))
    rbm = rbm.to(dtype)
    v, h = (support(units)[0] for units in (rbm.visible, rbm.hidden))
    weight, bias, below = rbm.weight.double(), rbm.hidden.bias.double(), rbm.visible.bias.double()
    log_p = ((v @ below)[:, None] + h @ bias + v @ weight.T @ h.T).detach()
    log_z = float(log_p.logsumexp((0, 1)))
    assert exact.log_partition(rbm) == pytest.approx(log_z, rel=0, abs=1e-12)
    found = exact.log_likelihood(rbm.double(), v, log_z)
    assert_close(found, log_p.logsumexp(1) - log_z, rtol=0, atol=1e-12)


def test_two_to_the_twenty_fifth_is_the_limit() -> None:
    assert exact.MOST_STATES == 2**25


@pytest.mark.parametrize("name", [name for name in CALLS if name != "divergence"])
def test_a_pair_without_a_partition_is_refused(name: str) -> None:
    rbm = make_rbm("gaussian", "gaussian")
    with torch.no_grad():
        rbm.weight.mul_(100)
    with pytest.raises(InputError, match=r"no finite Z, as its 2 gaussian visible and 2 gaussian hidden units"):
        CALLS[name](rbm)


@pytest.mark.parametrize("pair", TWO_LINES, ids="-".join)
@each_call
def test_two_continuous_sides_that_are_no_gaussian_are_refused(
    call: Callable[[RBM], object], pair: tuple[str, str]
) -> None:
    """A rectified unit falls off like a Gaussian, and the closed form would be wrong without a word."""
    if call is not CALLS["divergence"]:
        with pytest.raises(InputError, match=r"not d?relu"):
            call(make_rbm(*pair))


@each_call
@pytest.mark.parametrize("name", ["weight", "visible.bias", "hidden.log_precision"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite_are_refused(call: Callable[[RBM], object], name: str, value: float) -> None:
    rbm = make_rbm("bernoulli", "gaussian")
    with torch.no_grad():
        rbm.get_parameter(name).view(-1)[1] = value
    with pytest.raises(InputError, match=f"the RBM's {name} is not finite"):
        call(rbm)
    with pytest.raises(InputError, match=f"the RBM's {name} is not finite"):
        exact.log_likelihood(rbm, torch.zeros(1, 3), 0.0)


@each_call
def test_parameters_that_overflow_are_refused(call: Callable[[RBM], object]) -> None:
    rbm = RBM(Bernoulli(3), Bernoulli(3)).double()
    with torch.no_grad():
        rbm.weight.fill_(1e308)
    with pytest.raises(InputError, match="too large to compute with"):
        call(rbm)


def test_grey_levels_have_no_likelihood() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    grey = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.5, 1.0]])
    with pytest.raises(InputError, match="bernoulli units have states of 0, 1 only"):
        exact.log_likelihood(rbm, grey, 0.0)
    with pytest.raises(InputError, match="binarize"):
        exact.divergence(rbm, grey)
    assert exact.log_likelihood(rbm, grey[:1], 0.0).isfinite().all()


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    rbm, rows = make_rbm("bernoulli", "gaussian"), torch.zeros(shape)
    for call in (
        lambda: exact.log_likelihood(rbm, rows, 0.0),
        lambda: exact.divergence(rbm, rows),
        lambda: exact.set_exact_gradient(rbm, rows),
    ):
        with pytest.raises(InputError, match="3 bernoulli units need rows of 3 values") as refusal:
            call()
        assert "\n" not in str(refusal.value)


@each_exact_pair
def test_single_precision_is_left_where_the_device_has_no_double(
    visible: str, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that says so of itself stands in for one on such a device."""
    wanted = exact.log_partition(make_rbm(visible, hidden).float())

    class Elsewhere(nn.Parameter):
        device = property(lambda _: torch.device("mps"))  # type: ignore[assignment]

    rbm = make_rbm(visible, hidden).float()
    rbm.weight = Elsewhere(rbm.weight.detach())
    assert exact.log_partition(rbm) == pytest.approx(wanted, rel=0, abs=1e-12)


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="there is no such device here")
@each_exact_pair
def test_results_come_back_to_the_device(visible: str, hidden: str) -> None:
    here = make_rbm(visible, hidden).float()
    there, data = copy.deepcopy(here).to("mps"), examples(here).float()
    log_z = exact.log_partition(here)
    assert exact.log_partition(there) == log_z
    found = exact.log_likelihood(there, data.to("mps"), log_z)
    draws = exact.sample(there, 5, rng(1))
    assert (found.device.type, draws.device.type) == ("mps", "mps")
    assert torch.equal(found.cpu(), exact.log_likelihood(here, data, log_z))
    assert torch.equal(draws.cpu(), exact.sample(here, 5, rng(1)))
    if visible in DISCRETE:
        assert exact.divergence(there, data.to("mps")) == exact.divergence(here, data)
    for rbm, x in ((here, data), (there, data.to("mps"))):
        exact.set_exact_gradient(rbm, x)
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad.cpu())


def test_no_divergence_from_a_density_nor_of_no_examples() -> None:
    with pytest.raises(InputError, match="infinite"):
        exact.divergence(make_rbm("gaussian", "bernoulli"), torch.zeros(3, 2))
    rbm = make_rbm("bernoulli", "bernoulli")
    for call in (exact.divergence, exact.set_exact_gradient):
        with pytest.raises(InputError, match="at least one example"):
            call(rbm, torch.zeros(0, 3))
