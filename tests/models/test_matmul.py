"""The faster product against the slow one, and where it keeps out of the way."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from enumeration import rng
from torch import Tensor
from torch.autograd import forward_ad
from torch.testing import assert_close

from dbn.models import matmul as products
from dbn.models.matmul import LEAST, LinearByProduct, product
from dbn.models.mlp import mlp

SIZES = [(100, 784, 500), (1, 2100, 2000), (1000, 70, 61), (784, 200, 500)]
"""B, V, H: all of at least `LEAST` multiplications."""

there = pytest.mark.skipif(
    products._onednn_linear() is None, reason="torch has no product of oneDNN here, or the processor no AVX-512"
)


def factors(b: int, v: int, h: int) -> tuple[Tensor, Tensor]:
    assert b * v * h >= LEAST
    return torch.randn(b, v, generator=rng(1)), torch.randn(h, v, generator=rng(2))


def as_it_is(x: Tensor) -> Tensor:
    return x


def as_a_view(x: Tensor) -> Tensor:
    """The same numbers, laid out column by column."""
    return x.T.contiguous().T


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of x that reach oneDNN."""
    seen: list[tuple[int, ...]] = []
    onednn = products._onednn_linear()

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        assert onednn is not None
        seen.append(tuple(x.shape))
        return onednn(x, weight)

    monkeypatch.setattr(products, "_onednn_linear", lambda: watched if onednn else None)
    return seen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("x_as", [as_it_is, as_a_view])
@pytest.mark.parametrize("weight_as", [as_it_is, as_a_view])
def test_is_the_product_within_rounding(
    size: tuple[int, int, int], x_as: Callable[[Tensor], Tensor], weight_as: Callable[[Tensor], Tensor]
) -> None:
    x, weight = factors(*size)
    exact = x.double() @ weight.double().T
    # Higham (2002), "Accuracy and stability of numerical algorithms", section 3.1: whatever the order of a sum is.
    bound = size[1] * 2.0**-24 / (1 - size[1] * 2.0**-24) * (x.double().abs() @ weight.double().abs().T)
    found = product(x_as(x), weight_as(weight))
    assert found.dtype == torch.float32
    assert ((found.double() - exact).abs() <= bound).all()


def test_whole_numbers_are_exact() -> None:
    """What bfloat16 would round: 257 needs nine bits."""
    x, weight = torch.full((100, 784), 257.0), torch.full((500, 784), 5.0)
    assert torch.equal(product(x, weight), torch.full((100, 500), 257.0 * 5 * 784))


@there
def test_large_products_of_float32_go_to_onednn(calls: list[tuple[int, ...]]) -> None:
    x, weight = factors(100, 784, 500)
    again = [product(x, weight) for _ in range(3)]
    assert calls == [(100, 784)] * 3
    assert all(torch.equal(one, again[0]) for one in again)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, weight: (x[:9], weight),
        lambda x, weight: (x[:0], weight),
        lambda x, weight: (x.double(), weight.double()),
        lambda x, weight: (x.bfloat16(), weight.bfloat16()),
        lambda x, weight: (x, weight.clone().requires_grad_()),
        lambda x, weight: (x.clone().requires_grad_(), weight),
    ],
    ids=["small", "empty", "float64", "bfloat16", "weight learned", "input learned"],
)
def test_all_else_is_left_to_torch(
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], calls: list[tuple[int, ...]]
) -> None:
    x, weight = change(*factors(100, 784, 500))
    assert torch.equal(product(x, weight), x @ weight.T)
    assert calls == []


def test_autograd_sees_the_product() -> None:
    x, weight = (t.requires_grad_() for t in factors(100, 784, 500))
    assert_close(
        torch.autograd.grad(product(x, weight).sum(), (x, weight)),
        torch.autograd.grad((x @ weight.T).sum(), (x, weight)),
    )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("of", ["input", "weight"])
def test_forward_derivatives_see_the_product(of: str) -> None:
    x, weight = factors(100, 784, 500)
    tangents = (torch.ones_like(x), torch.zeros_like(weight)) if of == "input" else (x * 0, torch.ones_like(weight))
    expected = tangents[0] @ weight.T + x @ tangents[1].T
    assert_close(torch.func.jvp(product, (x, weight), tangents)[1], expected)
    with torch.no_grad(), forward_ad.dual_level():
        found = forward_ad.unpack_dual(product(*map(forward_ad.make_dual, (x, weight), tangents))).tangent
    assert_close(found, expected)


def test_transforms_and_exports_see_what_torch_knows(calls: list[tuple[int, ...]]) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return product(x, weight)

    x, weight = factors(100, 784, 500)
    assert_close(torch.func.vmap(product, (None, 0))(x, torch.stack([weight, -weight]))[1], -x @ weight.T)
    graph = torch.export.export(Module(), (x, weight)).graph
    assert not [node for node in graph.nodes if "mkldnn" in str(node.target)]
    assert_close(torch.compile(product, backend="eager", fullgraph=True)(x, weight), x @ weight.T)
    assert calls == []


def test_onednn_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]]) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    x, weight = factors(100, 784, 500)
    assert torch.equal(product(x, weight), x @ weight.T)
    assert calls == []


@there
def test_the_trial_does_not_depend_on_defaults() -> None:
    trial = products._onednn_linear.__wrapped__
    with torch.device("meta"):
        assert trial() is not None
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert trial() is not None
    finally:
        torch.set_default_dtype(before)


def test_without_the_operator_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_onednn_linear", lambda: None)
    x, weight = factors(100, 784, 500)
    assert torch.equal(product(x, weight), x @ weight.T)


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_is_not_tried_without_avx512(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products._onednn_linear.__wrapped__() is None


@pytest.mark.parametrize(
    "other",
    [lambda x, weight, *_: x @ weight.T + 1, lambda x, weight: x @ weight.T, lambda x, weight, *_: (x @ weight.T,)],
    ids=["meaning", "arguments", "result"],
)
def test_an_operator_with_another_is_not_taken(other: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    operators = SimpleNamespace(_linear_pointwise=SimpleNamespace(default=other))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    assert products._onednn_linear.__wrapped__() is None


@pytest.mark.parametrize("sizes", [(784, 500, 10), (7, 5, 3)], ids=["large", "small"])
def test_a_network_learns_the_same_by_either(sizes: tuple[int, ...], calls: list[tuple[int, ...]]) -> None:
    """Outputs and all gradients, with frozen layers too, against torch's own in twice the precision."""
    network = mlp(sizes, "sigmoid")
    x = torch.rand(100, sizes[0], generator=rng(3))
    for learned in ([True, True], [False, True]):
        for layer, learns in zip((network[0], network[2]), learned, strict=True):
            layer.requires_grad_(learns)
        with LinearByProduct():
            logits = network(x)
        network.zero_grad()
        logits.square().mean().backward()
        twin = copy.deepcopy(network).double()
        twin.zero_grad()
        slow = twin(x.double())
        slow.square().mean().backward()
        assert_close(logits, slow.float())
        for fast, exact in zip(network.parameters(), twin.parameters(), strict=True):
            assert (fast.grad is None) == (exact.grad is None)
            if exact.grad is not None:
                assert_close(fast.grad, exact.grad.float(), rtol=1e-5, atol=1e-7)
    # Forward twice, and the gradient of the weights once: the first layer's input needs none, and it freezes.
    assert calls == ([] if sizes[0] == 7 or products._onednn_linear() is None else [(100, 784), (500, 100), (100, 784)])


def test_beyond_the_mode_torch_multiplies(calls: list[tuple[int, ...]]) -> None:
    network = mlp((784, 500, 10), "relu").requires_grad_(False)
    network(torch.rand(100, 784, generator=rng(3)))
    assert calls == []
