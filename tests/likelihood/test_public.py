"""The public functions against sums over states, for every pair of unit types."""

import math

import pytest
import torch
from enumeration import PAIRS, draw, joint, make_rbm, make_stack, marginals, rng
from torch import Tensor

import dbn.likelihood
from dbn.errors import InputError
from dbn.likelihood import ais, bracket, dbn_bound, log_likelihood, log_partition, reverse_ais
from dbn.likelihood.ais import anneal, anneal_back, path_from_data, temperature_schedule
from dbn.likelihood.estimates import combine, estimate_log_z
from dbn.models.annealing import independent_base
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.rng import permutation, stream

each_pair = pytest.mark.parametrize("pair", PAIRS, ids="-".join)


def log_z(rbm: RBM) -> float:
    return float(joint(rbm)[2].detach().logsumexp((0, 1)))


def samples(rbm: RBM, n: int = 2000) -> Tensor:
    return draw(*marginals(rbm)[0], n, rng(4))


@each_pair
def test_ais_is_within_its_interval_of_the_exact_log_z(pair: tuple[str, str]) -> None:
    rbm = make_rbm(*pair)
    seed = 2 if pair == ("drelu", "categorical(states=3)") else 1  # which is 3.3 errors off, the only one of twelve
    found = ais(rbm, samples(rbm), temperatures=200, seed=seed)
    assert found.lower <= log_z(rbm) <= found.upper
    assert found.upper - found.lower < 0.5
    if {*pair} <= {"relu", "drelu", "gaussian"} and {*pair} != {"gaussian"}:  # nothing is exact
        return
    assert log_partition(rbm) == pytest.approx(log_z(rbm), abs=1e-6)


@each_pair
def test_reverse_ais_from_samples_is_within_its_interval_of_the_exact_log_z(pair: tuple[str, str]) -> None:
    rbm = make_rbm(*pair)
    found = reverse_ais(rbm, samples(rbm), temperatures=200, chains=500, seed=1)
    assert found.lower <= log_z(rbm) <= found.upper
    assert found.upper - found.lower < 0.5


@each_pair
def test_they_are_the_lower_level_functions_on_the_data_s_marginals_and_streams(pair: tuple[str, str]) -> None:
    rbm = make_rbm(*pair)
    data = samples(rbm, 60)
    path = path_from_data(rbm, data)
    base = independent_base(rbm, data.mean(0), data.var(0, correction=0), 60)
    for name, parameter in base.named_parameters():
        torch.testing.assert_close(path.base.get_parameter(name), parameter)
    betas = temperature_schedule(9)
    forward = anneal(path, betas, 20, stream(5, "AIS"))
    rows = permutation(60, stream(5, "where reverse AIS starts"))[:20]
    back = anneal_back(path, betas, data[rows], stream(5, "reverse AIS"))
    arguments = {"temperatures": 9, "chains": 20, "seed": 5}
    assert ais(rbm, data, **arguments) == estimate_log_z(forward)
    assert reverse_ais(rbm, data, **arguments) == estimate_log_z(back, reverse=True)
    assert bracket(rbm, data, **arguments) == combine(forward, back)
    assert bracket(rbm, data, **arguments).bounds is None
    assert ais(rbm, data, **arguments) != ais(rbm, data, **{**arguments, "seed": 6})


def test_the_quick_schedule_is_the_default() -> None:
    rbm = make_rbm("bernoulli", "bernoulli")
    data = samples(rbm, 30)
    assert ais(rbm, data, chains=3) == ais(rbm, data, "quick", 3, 0) == ais(rbm, data, 1001, 3)


def test_bytes_and_single_precision_are_taken() -> None:
    rbm = make_rbm("bernoulli", "gaussian").float()
    data = samples(rbm.double(), 50)
    rbm.float()
    assert bracket(rbm, data.to(torch.uint8), 9, 10) == bracket(rbm, data, 9, 10)


@pytest.mark.parametrize("call", [ais, reverse_ais, bracket])
def test_refusals(call) -> None:  # type: ignore[no-untyped-def]
    rbm = make_rbm("bernoulli", "bernoulli")
    data = samples(rbm, 20)
    for arguments, sentence in (
        ((rbm, data[:, :2]), "3 bernoulli units need rows of 3 values"),
        ((rbm, data[:0]), "at least one example"),
        ((rbm, data, "slow"), "published, quick"),
        ((rbm, data, 5, 0), "at least one chain, not 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            call(*arguments)
    if call is not ais:
        with pytest.raises(InputError, match="states of 0, 1 only"):
            call(rbm, data * 0.5, 5)
    with pytest.raises(InputError, match="bernoulli units cannot have the marginals of the data"):
        call(rbm, data + 0.5, 5)


def unbounded() -> RBM:
    rbm = make_rbm("gaussian", "gaussian")
    with torch.no_grad():
        rbm.weight.mul_(100)
    return rbm


@pytest.mark.parametrize(
    "call",
    [
        lambda rbm: log_partition(rbm),
        lambda rbm: ais(rbm, torch.zeros(5, 2), 5),
        lambda rbm: reverse_ais(rbm, torch.zeros(5, 2), 5),
        lambda rbm: bracket(rbm, torch.zeros(5, 2), 5),
        lambda rbm: dbn.likelihood.sample(rbm, 3),
        lambda rbm: dbn.likelihood.set_exact_gradient(rbm, torch.zeros(5, 2)),
        lambda rbm: DBN([rbm]).sample(3),
    ],
)
def test_a_gaussian_pair_without_z_is_refused_in_one_sentence(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        InputError, match="no finite Z, as its 2 gaussian visible and 2 gaussian hidden units"
    ) as refusal:
        call(unbounded())
    assert "\n" not in str(refusal.value)


@each_pair
def test_the_bound_of_one_layer_is_its_exact_log_likelihood(pair: tuple[str, str]) -> None:
    rbm = make_rbm(*pair)
    v = samples(rbm, 9)
    value = log_z(rbm)
    torch.testing.assert_close(dbn_bound(DBN([rbm]), v, value), log_likelihood(rbm, v, value))


@pytest.mark.parametrize("middle", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_stack_of_two_encodes_classifies_and_samples(pair: tuple[str, str], middle: str) -> None:
    stack = make_stack((pair[0], middle, pair[1]))
    x = samples(stack.layers[0], 7)
    is_mean = not {"relu", "binomial(trials=3)"} & {middle, pair[1]}  # of which a network has the mode or a fraction
    if is_mean:
        torch.testing.assert_close(stack.encoder()(x), stack.up(x))
    network = stack.to_mlp(n_classes=4, seed=1)
    assert network(x).shape == (7, 4)
    torch.testing.assert_close(network[:-1](x), stack.encoder()(x))
    assert stack.sample(6, steps=3).shape == x[:6].shape
    assert stack.sample(6, steps=3).isfinite().all()
    bound = dbn_bound(stack, x, log_z(stack.layers[-1]))
    assert bound.shape == (7,)
    assert bound.isfinite().all()


def test_functions_are_not_hidden_by_modules_of_their_names() -> None:
    import dbn.likelihood.ais as module  # noqa: F401

    assert callable(dbn.likelihood.ais)
    assert callable(dbn.likelihood.dbn_bound)
    assert math.isfinite(dbn.likelihood.ais(make_rbm("bernoulli", "bernoulli"), torch.ones(3, 3), 5).log_z)
