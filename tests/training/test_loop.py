"""The loop and what it is given."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.training import OPTIMIZERS
from dbn.training import loop as training
from dbn.training.device import pick_device
from dbn.training.loop import run_epochs, shuffled_batches
from dbn.training.optimizers import make_optimizer, set_option

CPU = torch.device("cpu")


def parameters(gradient: float) -> tuple[nn.Parameter, nn.Parameter]:
    matrix, vector = nn.Parameter(torch.full((2, 3), 2.0)), nn.Parameter(torch.full((3,), 2.0))
    for parameter in (matrix, vector):
        parameter.grad = torch.full_like(parameter, gradient)
    return matrix, vector


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_moves_matrices_only(name: str) -> None:
    matrix, vector = parameters(gradient=0.0)
    optimizer = make_optimizer(name, [matrix, vector], learning_rate=0.1, weight_decay=0.5)
    optimizer.step()
    assert torch.equal(vector, torch.full((3,), 2.0))
    assert matrix.max() < 2.0
    if name in ("sgd", "adamw"):
        assert_close(matrix.detach(), torch.full((2, 3), 2.0 * (1 - 0.1 * 0.5)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_weight_decay_nothing_moves_without_a_gradient(name: str) -> None:
    matrix, vector = parameters(gradient=0.0)
    make_optimizer(name, [matrix, vector], learning_rate=0.1).step()
    assert torch.equal(matrix, torch.full((2, 3), 2.0))
    assert torch.equal(vector, torch.full((3,), 2.0))


def test_a_step_goes_down_the_gradient_by_the_learning_rate() -> None:
    matrix, vector = parameters(gradient=3.0)
    make_optimizer("sgd", [matrix, vector], learning_rate=0.1).step()
    assert_close(matrix.detach(), torch.full((2, 3), 1.7))
    assert_close(vector.detach(), torch.full((3,), 1.7))


def test_momentum_and_learning_rate_can_change_between_epochs() -> None:
    matrix, vector = parameters(gradient=1.0)
    optimizer = make_optimizer("sgd", [matrix, vector], learning_rate=0.1, momentum=0.5)
    optimizer.step()
    optimizer.step()  # velocity 1, then 1.5
    set_option(optimizer, momentum=0.9, lr=0.2)
    optimizer.step()  # velocity 0.9·1.5 + 1 = 2.35
    for parameter in (matrix, vector):
        assert_close(parameter.detach(), torch.full_like(parameter, 2.0 - 0.1 * 2.5 - 0.2 * 2.35))


def test_one_kind_of_parameter_alone_makes_an_optimizer() -> None:
    _, vector = parameters(gradient=1.0)
    optimizer = make_optimizer("adam", iter([vector]), learning_rate=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


def order(epoch: int, seed: int = 0, layer: int = 1) -> list[Tensor]:
    return list(shuffled_batches(23, 5, seed, layer, epoch, device=CPU))


def test_batches_hold_every_example_once() -> None:
    batches = order(epoch=1)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(23))


def test_the_order_belongs_to_seed_layer_and_epoch() -> None:
    orders = [order(1), order(2), order(1, seed=1), order(2, layer=2), order(1, layer=2)]
    distinct = {tuple(torch.cat(batches).tolist()) for batches in orders}
    assert len(distinct) == len(orders)
    assert tuple(range(23)) not in distinct
    assert torch.equal(torch.cat(order(1)), torch.cat(order(1)))


def test_the_loop_passes_batches_in_order_and_stops_when_told() -> None:
    calls: list[tuple[int, int, list[int]]] = []
    told: list[int] = []

    def after(epoch: int, seconds: float) -> bool:
        told.append(epoch)
        return epoch == 4

    run_epochs(
        range(3, 8),
        lambda epoch: torch.arange(epoch).split(2),
        lambda batch, epoch, number: calls.append((epoch, number, batch.tolist())),
        after,
        device=CPU,
    )
    assert calls == [(3, 0, [0, 1]), (3, 1, [2]), (4, 0, [0, 1]), (4, 1, [2, 3])]
    assert told == [3, 4]


def test_the_loop_ends_with_its_epochs_and_times_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    seconds_seen: list[float] = []

    def step(batch: Tensor, epoch: int, number: int) -> None:
        clock.now += 1.0

    def after(epoch: int, seconds: float) -> bool:
        seconds_seen.append(seconds)
        clock.now += 100.0
        return False

    run_epochs(range(3), lambda epoch: torch.arange(4).split(2), step, after, device=CPU)
    assert seconds_seen == [2.0, 2.0, 2.0]


def test_devices_are_picked_by_name() -> None:
    assert pick_device("cpu") == CPU
    torch.empty(1, device=pick_device("auto"))


@pytest.mark.parametrize("name", ["nonsense", "cpu:cpu", "meta:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--device {name} is not available here"):
        pick_device(name)
