"""Signals against closed forms and against autograd; and that measuring alters nothing."""

import contextlib
import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.finetuning.signal_propagation import LayerSignal, record, signal_propagation, summarize, trace
from dbn.finetuning.signal_tables import comparison_table, table
from dbn.models.mlp import linear_layers, mlp
from dbn.runs.tensorboard import EventLog
from tests.enumeration import Z, rng
from tests.tiny import curves, events, steps

SIZES = (6, 7, 5, 4, 3)


def dropping(network: nn.Sequential) -> nn.Sequential:
    """The same with dropout before every linear layer."""
    return nn.Sequential(
        *(
            each
            for module in network
            for each in ([nn.Dropout(0.5)] if isinstance(module, nn.Linear) else []) + [module]
        )
    )


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "sigmoid": lambda: mlp(SIZES, "sigmoid"),
    "tanh": lambda: mlp(SIZES, "tanh"),
    "relu": lambda: mlp(SIZES, "relu"),
    "selu": lambda: mlp(SIZES, "selu"),
    "gelu": lambda: mlp(SIZES, "gelu"),
    "identity": lambda: mlp(SIZES, "identity"),
    "mixed": lambda: mlp(SIZES, ["tanh", "identity", "relu"]),
    "normalised": lambda: mlp(SIZES, "tanh", normalize=True),
    "normalised identity": lambda: mlp(SIZES, "identity", normalize=True),
    "dropout": lambda: dropping(mlp(SIZES, "sigmoid")),
    "both": lambda: dropping(mlp(SIZES, "relu", normalize=True)),
    "one layer": lambda: mlp((6, 3), "relu"),
}
each_network = pytest.mark.parametrize("kind", NETWORKS)


def network(kind: str, seed: int = 0) -> nn.Sequential:
    made, generator = NETWORKS[kind]().double(), rng(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.1, 0.7, generator=generator)
    return made


def batch(n: int = 9) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6, dtype=torch.float64, generator=rng(1)), torch.arange(n) % 3


def groups(network: nn.Sequential) -> list[list[nn.Module]]:
    """Linear, normalisation and activation of each layer, where it has them."""
    found: list[list[nn.Module]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            found.append([])
        if not isinstance(module, nn.Dropout):
            found[-1].append(module)
    return found


def with_statistics_of(x: Tensor, norm: nn.BatchNorm1d) -> Callable[[Tensor], Tensor]:
    mean, deviation = x.mean(0), (x.var(0, correction=0) + norm.eps).sqrt()
    return lambda x: (x - mean) / deviation * norm.weight + norm.bias


@each_network
def test_layers_and_jacobians_are_those_of_autograd(kind: str) -> None:
    net, (x, y) = network(kind), batch()
    h = x
    traced = trace(net, x, y, examples=4)
    assert len(traced) == len(groups(net))
    for (linear, *others), layer in zip(groups(net), traced, strict=True):
        to_z: list[Callable[[Tensor], Tensor]] = [linear]
        to_z += [with_statistics_of(linear(h), each) for each in others if isinstance(each, nn.BatchNorm1d)]
        to_h = [each for each in others if not isinstance(each, nn.BatchNorm1d)]

        def z_of(below: Tensor, to_z: list = to_z) -> Tensor:
            return to_z[-1](to_z[0](below)) if len(to_z) > 1 else to_z[0](below)

        def h_of(below: Tensor, z_of: Callable = z_of, to_h: list = to_h) -> Tensor:
            return to_h[0](z_of(below)) if to_h else z_of(below)

        assert_close(layer.z, z_of(h).detach())
        assert_close(layer.h, h_of(h).detach())
        assert_close(layer.singular_values, torch.stack([torch.linalg.svdvals(jacobian(h_of, row)) for row in h[:4]]))
        h = h_of(h).detach()


@each_network
def test_gradients_are_those_that_backward_leaves(kind: str) -> None:
    net, (x, y) = network(kind), batch()
    twin = copy.deepcopy(net).train()
    kept: dict[nn.Module, Tensor] = {}
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        elif isinstance(module, nn.Linear | nn.BatchNorm1d):
            module.register_forward_hook(lambda module, _, out: (out.retain_grad(), kept.__setitem__(module, out))[0])
    logits = twin(x)
    F.cross_entropy(logits, y).backward()
    traced = trace(net, x, y)
    for (linear, *others), layer in zip(groups(twin), traced, strict=True):
        norms = [each for each in others if isinstance(each, nn.BatchNorm1d)]
        assert_close(layer.gradient, kept[norms[0] if norms else linear].grad * len(x))
        assert_close(layer.weight_gradient, linear.weight.grad)
    assert_close(traced[-1].gradient, (logits.softmax(1) - F.one_hot(y)).detach())


@each_network
def test_the_numbers_sum_up_the_trace(kind: str) -> None:
    net, (x, y) = network(kind), batch()
    traced = trace(net, x, y, examples=3)
    assert signal_propagation(net, x, y, examples=3) == summarize(traced)
    for layer, signal in zip(traced, summarize(traced), strict=True):
        z, h, s = layer.z.numpy(), layer.h.numpy(), layer.singular_values.numpy()
        wanted = LayerSignal(
            z_mean=z.mean(),
            z_std=z.std(),
            example_std=(z.var(0).mean()) ** 0.5,
            h_mean=h.mean(),
            h_std=h.std(),
            saturated=layer.flat.numpy().mean(),
            dead=(layer.flat.numpy().sum(0) == len(x)).mean(),
            gradient_std=layer.gradient.numpy().std(),
            weight_gradient_std=layer.weight_gradient.numpy().std(),
            singular_mean=s.mean(),
            singular_std=s.std(),
            singular_max=s.max(),
        )
        assert signal == pytest.approx(wanted, rel=1e-12, abs=1e-14)
        assert all(type(value) is float for value in signal)


@each_network
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_measuring_alters_nothing(kind: str, mode: Callable[[], contextlib.AbstractContextManager]) -> None:
    net, (x, y) = network(kind), batch()
    first, *_, last = net.parameters()
    first.requires_grad_(False)
    last.grad = torch.full_like(last, 7.0)
    net.train()
    for place, module in enumerate(net):
        module.train(place % 2 == 0)
    twin, modes, state = copy.deepcopy(net), [module.training for module in net], torch.get_rng_state()
    before = x.clone()
    with mode():
        found = signal_propagation(net, x, y)
    assert found == signal_propagation(net, x, y)
    for name, value in net.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    assert [module.training for module in net] == modes
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in twin.parameters()]
    assert all(p.grad is None for p in net.parameters() if p is not last)
    assert torch.equal(last.grad, torch.full_like(last, 7.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)
    assert not x.requires_grad


def test_dropout_is_off() -> None:
    net, (x, y) = network("dropout"), batch()
    plain = nn.Sequential(*(module for module in net if not isinstance(module, nn.Dropout)))
    assert signal_propagation(net, x, y) == signal_propagation(plain, x, y)


def square(depth: int, width: int, activation: str = "identity") -> nn.Sequential:
    return mlp([width] * (depth + 1) + [width], activation).double()


def orthogonal(seed: int, width: int) -> Tensor:
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=rng(seed)))[0]


def fill(net: nn.Sequential, weight: Callable[[int], Tensor]) -> nn.Sequential:
    with torch.no_grad():
        for number, layer in enumerate(linear_layers(net)):
            layer.weight.copy_(weight(number))
            layer.bias.zero_()
    return net


def test_orthogonal_weights_keep_every_length() -> None:
    net = fill(square(6, 8), lambda number: orthogonal(number, 8))
    x, y = torch.randn(20, 8, dtype=torch.float64, generator=rng()), torch.arange(20) % 8
    traced = trace(net, x, y)
    for layer, signal in zip(traced, summarize(traced), strict=True):
        assert signal.z_mean**2 + signal.z_std**2 == pytest.approx(x.square().mean().item(), rel=1e-12)
        assert_close(layer.gradient.norm(dim=1), traced[-1].gradient.norm(dim=1))
        assert (signal.singular_mean, signal.singular_max) == pytest.approx((1.0, 1.0), rel=1e-12)
        assert signal.singular_std == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_scaled_permutations_multiply_every_spread(factor: float) -> None:
    width, depth = 8, 5
    net = fill(square(depth, width), lambda n: factor * torch.eye(width)[torch.randperm(width, generator=rng(n))])
    x, y = torch.randn(20, width, dtype=torch.float64, generator=rng()), torch.arange(20) % width
    found = signal_propagation(net, x, y)
    for number, signal in enumerate(found, start=1):
        assert signal.z_std == pytest.approx(factor**number * x.std(correction=0).item(), rel=1e-12)
        assert signal.h_std == signal.z_std
        assert signal.example_std == pytest.approx(
            factor**number * x.var(0, correction=0).mean().sqrt().item(), rel=1e-12
        )
        back = factor ** (len(found) - number)
        assert signal.gradient_std == pytest.approx(back * found[-1].gradient_std, rel=1e-12)
        assert (signal.singular_mean, signal.singular_max) == pytest.approx((factor, factor), rel=1e-12)
        assert (signal.saturated, signal.dead) == (0.0, 0.0)
    arm = comparison_table({"scaled": {"": found}}).splitlines()[2]
    assert arm.split() == ["scaled", *[f"{factor:g}"] * 3, *["0.0", "%"] * 2, f"{factor:g}"]


def test_no_gradient_passes_zero_weights() -> None:
    width = 6
    net = fill(square(5, width, "tanh"), lambda n: orthogonal(n, width) if n != 2 else torch.zeros(width, width))
    found = signal_propagation(
        net, torch.randn(9, width, dtype=torch.float64, generator=rng()), torch.arange(9) % width
    )
    assert [signal.gradient_std > 0 for signal in found] == [False, False, True, True, True, True]
    # Above the zeros there is nothing to multiply with, so that no weight learns but those of its biases.
    assert [signal.weight_gradient_std > 0 for signal in found] == [False, False, True, False, False, False]
    assert [signal.z_std > 0 for signal in found] == [True, True, False, False, False, False]
    assert [signal.singular_max > 0 for signal in found] == [True, True, False, True, True, True]
    assert comparison_table({"zero": {"": found}}).splitlines()[2].split()[:4] == ["zero", "0", "0", "0"]


@pytest.mark.parametrize(("gain", "kept"), [(2.0, 1.0), (1.0, 0.5)], ids=["he", "lecun"])
def test_relu_layers_keep_the_mean_square_under_he_and_halve_it_under_lecun(gain: float, kept: float) -> None:
    # Over starts, E[z²] is gain·mean(x²) in the first layer and gain/2 times that of the layer below in the others:
    # exact at every width, since z is symmetric about 0 whatever lies below.
    nets, width, depth = 100, 64, 4
    x = torch.rand(2, width, dtype=torch.float64, generator=rng())
    squares = torch.empty(nets, depth, dtype=torch.float64)
    for number in range(nets):
        generator = rng(number)
        net = fill(
            square(depth, width, "relu"),
            lambda _, g=generator: torch.randn(width, width, dtype=torch.float64, generator=g) * (gain / width) ** 0.5,
        )
        found = signal_propagation(net, x, torch.tensor([0, 1]), examples=1)
        squares[number] = torch.tensor([signal.z_mean**2 + signal.z_std**2 for signal in found[:depth]])
    wanted = gain * x.square().mean() * kept ** torch.arange(depth)
    errors = squares.std(0) / nets**0.5
    assert ((squares.mean(0) - wanted).abs() < Z * errors).all()
    assert (Z * errors < 0.5 * wanted).all()  # small enough to tell the one from the other


@pytest.mark.parametrize(("activation", "end"), [("sigmoid", math.log(99)), ("tanh", math.atanh(0.98))])
def test_unit_deviation_saturates(activation: str, end: float) -> None:
    # Inputs √V·e_i see one column each, so that all pre-activations are independent draws of N(0, V).
    inputs, units = 64, 500
    weight = torch.randn(units, inputs, dtype=torch.float64, generator=rng())
    net = mlp([inputs, units, 2], activation).double()
    with torch.no_grad():
        net[0].weight.copy_(weight)
        net[0].bias.zero_()
    x = inputs**0.5 * torch.eye(inputs, dtype=torch.float64)
    hidden, output = signal_propagation(net, x, torch.arange(inputs) % 2, examples=1)
    p = 2 * stats.norm.sf(end / inputs**0.5)
    assert 0.5 < p < 0.9
    assert abs(hidden.saturated - p) < Z * (p * (1 - p) / (inputs * units)) ** 0.5
    assert (output.saturated, output.dead) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [("sigmoid", math.log(99), math.log(99)), ("tanh", math.atanh(0.98), math.atanh(0.98)), ("relu", 0.0, math.inf)],
)
def test_where_saturation_begins(activation: str, low: float, high: float) -> None:
    edges = torch.tensor([-low * 1.001 - 1e-6, -low * 0.999 + 1e-6, min(high, 50) * 0.999, min(high, 50) * 1.001])
    net = fill(mlp([4, 4, 4], activation).double(), lambda _: torch.eye(4))
    (layer, _) = trace(net, edges.double().expand(3, 4), torch.arange(3))
    assert layer.flat.tolist() == [[1.0, 0.0, 0.0, 0.0 if high == math.inf else 1.0]] * 3


def test_dead_units_are_those_that_no_example_wakes() -> None:
    net = fill(mlp([4, 4, 2], "relu").double(), lambda n: torch.eye(4) if n == 0 else torch.ones(2, 4))
    x = torch.tensor([[1.0, -1.0, -1.0, -1.0], [1.0, 1.0, -1.0, 0.0], [1.0, -1.0, -1.0, -1.0]], dtype=torch.float64)
    hidden, _ = signal_propagation(net, x, torch.tensor([0, 1, 0]))
    assert hidden.dead == 0.5
    assert hidden.saturated == pytest.approx(8 / 12)


def test_normalized_layers_pass_on_unit_spread() -> None:
    net = mlp(SIZES, "tanh", normalize=True).double()
    for signal in signal_propagation(net, *batch())[:-1]:
        assert (signal.z_mean, signal.z_std, signal.example_std) == pytest.approx((0.0, 1.0, 1.0), abs=1e-3)


def test_gradients_that_vanish_are_not_lost_in_their_squares() -> None:
    net = fill(square(4, 8), lambda n: 1e-60 * torch.eye(8, dtype=torch.float64))
    x = torch.randn(20, 8, dtype=torch.float64, generator=rng())
    found = signal_propagation(net, x, torch.arange(20) % 8)
    spreads = [1e-60**number * x.std(correction=0).item() for number in range(1, 6)]
    assert [signal.z_std for signal in found] == pytest.approx(spreads, rel=1e-6, abs=0)
    assert found[0].gradient_std == pytest.approx(1e-240 * found[-1].gradient_std, rel=1e-6, abs=0)
    assert found[-1].gradient_std > 0.1


def exploding() -> tuple[nn.Sequential, Tensor, Tensor]:
    net = fill(square(3, 8, "relu").float(), lambda n: 1e30 * torch.eye(8))
    return net, torch.rand(6, 8, generator=rng()), torch.arange(6) % 8


def test_an_exploding_network_is_measured_all_the_same() -> None:
    first, second, *_ = signal_propagation(*exploding())
    assert first.z_std == pytest.approx(1e30 * exploding()[1].std(correction=0).item(), rel=1e-5)
    assert first.singular_max == pytest.approx(1e30, rel=1e-5)
    assert not math.isfinite(second.z_std)
    assert math.isnan(first.gradient_std)


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "relu", "normalised"])
def test_what_is_no_number_has_no_signal(kind: str) -> None:
    diverged = network(kind)
    with torch.no_grad():
        diverged[0].weight[0, 0] = math.nan
    for signal in signal_propagation(diverged, *batch())[:-1]:
        assert all(math.isnan(value) for value in signal)


def test_events_hold_every_number_and_every_value(tmp_path: Path) -> None:
    net, (x, y) = network("sigmoid"), batch()
    with EventLog(tmp_path) as written:
        record(written, trace(net, x, y), step=3)
        record(written, trace(net, x, y), step=5)
    found, shown = signal_propagation(net, x, y), curves(tmp_path)
    for number, signal in enumerate(found, start=1):
        for name, value in signal._asdict().items():
            assert shown[f"signals/layer{number}/{name}"] == [(s, pytest.approx(value, rel=1e-6)) for s in (3, 5)]
    names = ("z", "h", "gradient", "weight_gradient", "singular_values")
    assert steps(tmp_path) == {f"signals/layer{n}/{name}": [3, 5] for n in range(1, 5) for name in names}
    log = events(tmp_path)
    for number, layer in enumerate(trace(net, x, y), start=1):
        for name in names:
            histogram = log.Histograms(f"signals/layer{number}/{name}")[0].histogram_value
            values = getattr(layer, name)
            assert (histogram.num, histogram.max) == (values.numel(), pytest.approx(values.max().item(), rel=1e-6))


def test_what_is_not_finite_has_a_mark_and_no_histogram(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        record(log, trace(*exploding()), step=1, prefix="start")
    assert math.isnan(curves(tmp_path)["start/layer1/gradient_std"][0][1])
    assert steps(tmp_path) == {}  # the first layer's values are finite, and beyond TensorBoard's last bin


def test_a_layer_that_has_exploded_hides_no_other(tmp_path: Path) -> None:
    net, (x, y) = network("relu"), batch()
    with torch.no_grad():
        net[4].weight.fill_(1e21)
    with EventLog(tmp_path) as log:
        record(log, trace(net, x, y), step=1)
    names = {"z", "h", "weight_gradient", "singular_values"}
    assert {f"signals/layer2/{name}" for name in ("z", "h")} <= set(steps(tmp_path))
    assert not {f"signals/layer3/{name}" for name in names - {"weight_gradient"}} & set(steps(tmp_path))


def words(text: str, *lines: int) -> str:
    return "\n".join(" ".join(text.splitlines()[line].split()) for line in lines)


def test_tables() -> None:
    first = LayerSignal(0.0, 2.0, 1.5, 0.5, 0.25, 0.125, 0.0, 1e-8, 2e-9, 0.8, 0.1, 1.25)
    last = first._replace(z_std=0.5, example_std=1.5e-4, saturated=0.5, dead=0.25, gradient_std=4e-8, singular_mean=0.4)
    assert words(table([first, last]), 2, 3) == (
        "1 0 ± 2 1.5 0.5 ± 0.25 12.5 % 0.0 % 1e-08 2e-09 0.8 ± 0.1 1.25\n"
        "output 0 ± 0.5 0.00015 0.5 ± 0.25 50.0 % 25.0 % 4e-08 2e-09 0.4 ± 0.1 1.25"
    )
    deep, shallow = [first, first, last, first], [first, last]
    compared = comparison_table({"he": {"start": shallow, "kept": deep}, "shallow": {"kept": shallow}})
    assert words(compared, 2, 3, 4) == (
        "he start 12.5 % 0.0 % 0.8\nkept 0.5 0.01 0.5 50.0 % 25.0 % 0.667\nshallow kept 12.5 % 0.0 % 0.8"
    )
    assert "backward" in words(compared, 0)
    of_one_layer = comparison_table({"shallow": {"kept": shallow}})
    assert words(of_one_layer, 0, 2) == ("arm when saturated or off dead singular value\nshallow kept 12.5 % 0.0 % 0.8")
    with pytest.raises(InputError, match="linear has no hidden layer"):
        comparison_table({"linear": {"start": [first]}})


@pytest.mark.parametrize(("rows", "labels"), [(1, 1), (0, 0), (5, 4)])
def test_examples_that_cannot_be_used(rows: int, labels: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 examples and a label for each, not {rows} and {labels}"):
        signal_propagation(network("relu"), torch.zeros(rows, 6), torch.zeros(labels, dtype=torch.long))


def test_a_network_without_linear_layers_is_refused() -> None:
    with pytest.raises(InputError, match="this one has none"):
        signal_propagation(nn.Sequential(nn.Tanh()), torch.zeros(2, 6), torch.zeros(2, dtype=torch.long))
