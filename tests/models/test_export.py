"""Stacks and their scaling under torch.export: any number of rows, the same values, and what is refused."""

import pytest
import torch
from torch import Tensor, nn

from dbn.errors import InputError
from dbn.models import DBN, RBM, Scaling
from dbn.models.units.naming import make_units

GENERATOR = torch.Generator().manual_seed(0)


def exported(module: nn.Module, rows: Tensor) -> nn.Module:
    dynamic = ({0: torch.export.Dim("rows")},)
    return torch.export.export(module.eval(), (rows[:2],), dynamic_shapes=dynamic).module()


def stack_of(*kinds: str) -> DBN:
    visible, *hidden = (make_units(kind, 6) for kind in kinds)
    rbms = [RBM(below, above) for below, above in zip([visible, *hidden], hidden, strict=False)]
    for parameter in nn.ModuleList(rbms).parameters():
        nn.init.normal_(parameter.data, std=0.3, generator=GENERATOR)
    return DBN(rbms, Scaling(1.0)).requires_grad_(False)


@pytest.mark.parametrize(
    "kinds",
    [
        ("gaussian", "relu", "bernoulli"),
        ("drelu", "drelu", "drelu"),
        ("bernoulli", "spin", "binomial(trials=3)"),
        ("bernoulli", "categorical(states=3)", "gaussian"),
    ],
    ids=",".join,
)
def test_every_type_of_unit_is_exported(kinds: tuple[str, ...]) -> None:
    stack, x = stack_of(*kinds), torch.rand(1000, 6, generator=GENERATOR)
    program = exported(stack, x)
    torch.testing.assert_close(program(x), stack(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(program(x[:1]), stack(x[:1]), rtol=0, atol=1e-5)


def test_a_trace_leaves_the_layout_of_a_table_as_it_was() -> None:
    codes = torch.stack([torch.arange(9) % 3, torch.arange(9) / 9], 1)
    scaling = Scaling(1.0, torch.tensor([0.0, 0, 0, 1]), torch.tensor([1.0, 1, 1, 2]), codes=(3, 0))
    program = exported(scaling, codes)
    expected = torch.cat([torch.eye(3).repeat(3, 1), (codes[:, 1:] - 1) / 2], 1)
    torch.testing.assert_close(program(codes), expected)
    torch.testing.assert_close(scaling(codes), expected)


def test_bytes_are_scaled_as_in_training_or_refused() -> None:
    stack, x = stack_of("bernoulli", "bernoulli"), torch.randint(0, 256, (9, 6), dtype=torch.uint8, generator=GENERATOR)
    stack.scaling = Scaling(255.0, stored="bytes", values=(0.0, 1.0))
    torch.testing.assert_close(exported(stack, x)(x), stack.layers[0].up(x / 255))
    stack.scaling = Scaling(1.0, stored="floats", values=(0.0, 1.0))
    with pytest.raises(InputError, match=r"^x holds bytes, but the stack was trained on floats in \[0, 1\]: export it"):
        exported(stack, x)
