"""Units of several types side by side; what they have in common with others is tested with these."""

import copy

import pytest
import torch
from enumeration import MIXED, make_rbm, make_units, rng
from torch.testing import assert_close

from dbn.errors import InputError
from dbn.likelihood import ais, log_partition, set_gradient
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.mixed import Mixed
from dbn.models.units.naming import make_units as units_named
from dbn.models.units.naming import units_of


def test_mixed_units_can_be_shown_copied_and_described() -> None:
    units = make_units(MIXED)
    assert repr(units) == f"Mixed(6, parts={MIXED})"
    assert repr(RBM(units, Bernoulli(2))) == f"RBM(Mixed(6, parts={MIXED}), Bernoulli(2))"
    again = units_of(units.description()).double()
    again.load_state_dict(units.state_dict())
    x = torch.randn(3, 6, dtype=torch.float64, generator=rng())
    for other in (again, copy.deepcopy(units)):
        assert_close(other.energy(x), units.energy(x))
    assert {name for name, _ in units.named_parameters()} == {"bias", "kinds.1.log_precision"}
    assert units.codes == (0, 0, 0, 3)
    assert units.standardized_units.tolist() == [False, False, True, False, False, False]


def test_closed_form_gradient_is_that_of_autograd() -> None:
    rbm = make_rbm(MIXED, "bernoulli", seed=3)
    v = [rbm.sample_visible(torch.bernoulli(torch.full((7, 3), 0.5, dtype=torch.float64)), rng(n)) for n in (1, 2)]
    set_gradient(rbm, v[0].detach(), v[1].detach())
    loss = rbm.free_energy(v[0].detach()).mean() - rbm.free_energy(v[1].detach()).mean()
    names, parameters = zip(*rbm.named_parameters(), strict=True)
    for name, wanted in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert_close(rbm.get_parameter(name).grad, wanted)


def test_ais_has_the_exact_log_z_in_its_interval() -> None:
    rbm = make_rbm(MIXED, "bernoulli", seed=4).float()
    data = rbm.sample_visible(torch.bernoulli(torch.full((50, 3), 0.5)), rng(1)).detach()
    found = ais(rbm, data, temperatures=300, chains=300, seed=0)
    assert found.lower < log_partition(rbm) < found.upper
    assert found.upper - found.lower < 0.3


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("2 bernoulli + 1 gaussian", 4, "are 3 units, not 4"),
        ("2 bernoulli + 2 categorical(states=3)", 4, "no groups of 3"),
        ("2 bernoulli + gaussian", 4, "no unit type"),
        ("mixed", 4, "named by their parts"),
    ],
)
def test_parts_that_do_not_fit_are_refused(text: str, size: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        units_named(text, size)


def test_a_mixed_layer_is_no_layer_of_a_network() -> None:
    with pytest.raises(InputError, match="use hidden units of one type"):
        Mixed(2, "1 bernoulli + 1 spin").as_linear(torch.zeros(2, 3))
