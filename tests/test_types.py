"""Every public function of models, sampling and likelihood with numbers of every type: the value of floats, or refused.

A silently truncated field, a byte that wraps around, or a draw with a rounded probability differs here.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from enumeration import make_rbm
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

import dbn.likelihood as likelihood
from dbn.columns import Column
from dbn.errors import InputError
from dbn.likelihood.ais import anneal, anneal_back, anneal_between, path_from_data, temperature_schedule
from dbn.likelihood.dbn_bound import layer_bounds
from dbn.likelihood.layer_ratio import layer_ratio
from dbn.models import DBN, RBM, Scaling
from dbn.models.annealing import Annealed, Path, independent_base
from dbn.models.idle import idle_layers
from dbn.models.units.base import Units
from dbn.sampling import Chains, DataChains, PersistentChains, TemperedChains, autocorrelation

INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
SHORT = (torch.float16, torch.bfloat16)
TYPES = (*INTEGERS, *SHORT, torch.float32, torch.float64)
MODELS = (torch.float32, torch.float64, *SHORT)

Call = Callable[["Given"], Any]


@cache
def models(pair: tuple[str, str], dtype: torch.dtype) -> tuple[RBM, RBM]:
    lower, upper = make_rbm(*pair, seed=3), make_rbm(pair[1], pair[0], seed=4)
    return lower.to(dtype).requires_grad_(False), upper.to(dtype).requires_grad_(False)


class Given:
    """A model in one type, and states of 0 and 1 in another."""

    def __init__(self, pair: tuple[str, str], model: torch.dtype, states: torch.dtype) -> None:
        self.rbm, self.upper = models(pair, model)
        self.stack = DBN([self.rbm, self.upper], Scaling(1.0))
        self.v = torch.cartesian_prod(*[torch.tensor([0, 1])] * self.rbm.visible.size).repeat(8, 1).to(states)
        self.h = torch.cartesian_prod(*[torch.tensor([0, 1])] * self.rbm.hidden.size).to(states)
        self.h = self.h.repeat(len(self.v) // len(self.h), 1)
        self.generator = torch.Generator("cpu").manual_seed(5)

    def path(self) -> Path:
        return path_from_data(self.rbm, self.v.float())

    def negatives(self, chains: Chains) -> Any:
        """Two calls, between them the states as another type."""
        for _ in range(2):
            found = chains.negatives(self.rbm, self.v, self.rbm.hidden_field(self.v), self.generator)
            state = chains.state()
            if state and self.rbm.visible.kind == "bernoulli":
                chains.load_state(state | {"v": state["v"].to(self.v.dtype), "reference": state["v"].to(self.v.dtype)})
        return found, chains.metrics()

    def gradient(self, set_it: Callable[[RBM], Any]) -> Any:
        learning = copy.deepcopy(self.rbm).requires_grad_()
        means = set_it(learning)
        return means, {name: parameter.grad for name, parameter in learning.named_parameters()}

    def centered(self, rbm: RBM, offsets: likelihood.Offsets) -> Any:
        return likelihood.set_gradient(rbm, self.v, self.v.flip(0), offsets=offsets), offsets.state()

    def fitted(self, units: Units) -> Any:
        units = copy.deepcopy(units)
        units.fit_marginals(self.v[3], self.v[5], 1000)
        return units.state_dict()

    def initialized(self) -> Any:
        rbm = copy.deepcopy(self.rbm)
        rbm.initialize(self.v[3], self.v[5], 1000, self.generator)
        return rbm.state_dict()


def of_units(call: Callable[[Units, Tensor], Any]) -> Call:
    return lambda g: (call(g.rbm.visible, g.v), call(g.rbm.hidden, g.h))


def annealed(g: Given) -> Annealed:
    return g.path().at(0.5)


def of_table(given: "Given") -> Scaling:
    """Of a table of numbers."""
    return Scaling(1.0, table=[Column("gaussian")] * given.v.shape[1])


CALLS: dict[str, Call] = {
    "RBM.forward": lambda g: g.rbm(g.v),
    "RBM.up": lambda g: g.rbm.up(g.v),
    "RBM.down": lambda g: g.rbm.down(g.h),
    "RBM.hidden_field": lambda g: g.rbm.hidden_field(g.v),
    "RBM.visible_field": lambda g: g.rbm.visible_field(g.h),
    "RBM.sample_hidden": lambda g: g.rbm.sample_hidden(g.v, g.generator),
    "RBM.sample_visible": lambda g: g.rbm.sample_visible(g.h, g.generator),
    "RBM.gibbs": lambda g: (g.rbm.gibbs(g.v, 3, g.generator), g.rbm.gibbs(g.v, 0)),
    "RBM.energy": lambda g: g.rbm.energy(g.v, g.h),
    "RBM.free_energy": lambda g: g.rbm.free_energy(g.v),
    "RBM.initialize": Given.initialized,
    "Units.energy": of_units(lambda units, x: units.energy(x)),
    "Units.dot": of_units(lambda units, x: units.dot(units.natural(), x)),
    "Units.statistics": of_units(lambda units, x: units.statistics(x)),
    "Units.values": of_units(lambda units, x: units.values(x)),
    "Units.divergence": of_units(lambda units, x: units.divergence(x, x.flip(0))),
    "Units.centered": of_units(lambda units, x: units.centered(x)),
    "Units.in_support": of_units(lambda units, x: units.in_support(x)),
    "Units.check_rows": of_units(lambda units, x: units.check_rows(x)),
    "Units.check_states": of_units(lambda units, x: units.check_states(x)),
    "Units.fit_marginals": lambda g: g.fitted(g.rbm.visible),
    # A field is computed from states, but may be given.
    "Units.mean": of_units(lambda units, x: units.mean(x)),
    "Units.sample_and_expect": lambda g: g.rbm.visible.sample_and_expect(g.v, g.generator),
    "Units.sample": lambda g: g.rbm.visible.sample(g.v, g.generator),
    "Units.log_partition": of_units(lambda units, x: units.log_partition(x)),
    "Units.expected_statistics": of_units(lambda units, x: units.expected_statistics(x)),
    "Annealed.hidden_field": lambda g: annealed(g).hidden_field(g.v),
    "Annealed.visible_field": lambda g: annealed(g).visible_field(g.h),
    "Path.product": lambda g: g.path().product(g.v),
    "Path.field": lambda g: g.path().field(g.path().product(g.v), 0.5),
    "Path.log_ratio": lambda g: g.path().log_ratio(g.v, g.path().product(g.v), g.path().at(0.3), g.path().at(1)),
    "Path.at": lambda g: g.path().at(g.v[:, :1]).free_energy(g.v),
    "independent_base": lambda g: independent_base(g.rbm, g.v[3], g.v[5], 1000).state_dict(),
    "DBN.forward": lambda g: g.stack(g.v),
    "DBN.up": lambda g: g.stack.up(g.v, layers=1),
    "DBN.down": lambda g: (g.stack.down(g.v), g.stack.down(g.v, g.generator)),
    "DBN.sample": lambda g: g.stack.sample(len(g.v), steps=2, start=g.v, generator=g.generator),
    "DBN.sample_up": lambda g: g.stack.sample_up(g.v, g.generator),
    "DBN.samples_given": lambda g: g.stack.samples_given(g.stack.up(g.v), g.generator),
    "DBN.impute": lambda g: g.stack.impute(g.v, torch.ones(g.v.shape, device="cpu").cumsum(1) > 1, steps=2).double(),
    "DBN.lowest_hidden": lambda g: g.stack.lowest_hidden(g.stack.up(g.v), g.generator),
    "DBN.scale": lambda g: g.stack.scale(g.v),
    "DBN.coded": lambda g: DBN([g.rbm], of_table(g)).coded(g.v),
    "DBN.cells": lambda g: DBN([g.rbm], of_table(g)).cells(g.v),
    "DBN.match": lambda g: g.stack.match(g.v).scaling.divisor,
    "idle_layers": lambda g: idle_layers(DBN([g.rbm]), g.v),
    "Scaling.forward": lambda g: Scaling(1.0, g.v[3].float(), g.v[5].float() + 1)(g.v),
    "Scaling.inverse": lambda g: Scaling(1.0, g.v[3].float(), g.v[5].float() + 1).inverse(g.v),
    "Scaling.fitted": lambda g: Scaling.fitted(g.v, 1.0, standardized=True).state_dict(),
    "Scaling.is_divided": lambda g: Scaling(1.0).is_divided(g.v),
    "Scaling.coded": lambda g: of_table(g).coded(g.v, None),
    "Scaling.cells": lambda g: of_table(g).cells(g.v),
    "Scaling.check_codes": lambda g: Scaling(1.0, codes=2).check_codes(g.v, "x"),
    "Scaling.log_abs_det_jacobian": lambda g: Scaling(1.0).log_abs_det_jacobian(g.v),
    "DataChains.negatives": lambda g: (g.negatives(DataChains(2)), g.negatives(DataChains(2, mean_last=False))),
    "PersistentChains.negatives": lambda g: g.negatives(PersistentChains(2, 5)),
    "TemperedChains.negatives": lambda g: g.negatives(TemperedChains(2, 5, 3)),
    "autocorrelation": lambda g: autocorrelation(g.v, g.v.flip(0)),
    "ais": lambda g: likelihood.ais(g.rbm, g.v, 10, 5),
    "reverse_ais": lambda g: likelihood.reverse_ais(g.rbm, g.v, 10, 5),
    "bracket": lambda g: likelihood.bracket(g.rbm, g.v, 10, 5),
    "path_from_data": lambda g: path_from_data(g.rbm, g.v).base.state_dict(),
    "anneal": lambda g: anneal(g.path(), g.v[0, :0].new_tensor([0, 1]), 5, g.generator),
    "anneal_back": lambda g: anneal_back(g.path(), temperature_schedule(5), g.v, g.generator),
    "anneal_between": lambda g: anneal_between(g.path(), temperature_schedule(5), g.v, g.generator),
    "layer_ratio": lambda g: layer_ratio(g.rbm, g.upper, temperature_schedule(5), (g.h, g.h), g.generator),
    "layer_bounds": lambda g: layer_bounds(g.stack, g.v, g.generator),
    "dbn_bound": lambda g: likelihood.dbn_bound(g.stack, g.v, 1.5),
    "conditional_log_likelihood": lambda g: likelihood.conditional_log_likelihood(
        g.stack, g.v, torch.ones(g.v.shape, device="cpu").cumsum(1) > 1, steps=2
    ).nan_to_num(),
    "pseudo_log_likelihood": lambda g: likelihood.pseudo_log_likelihood(g.rbm, g.v),
    "log_partition": lambda g: likelihood.log_partition(g.rbm),
    "log_likelihood": lambda g: likelihood.log_likelihood(g.rbm, g.v, 1.5),
    "divergence": lambda g: likelihood.divergence(g.rbm, g.v),
    "sample": lambda g: likelihood.sample(g.rbm, 20, g.generator),
    "set_exact_gradient": lambda g: g.gradient(lambda rbm: likelihood.set_exact_gradient(rbm, g.v)),
    "set_gradient": lambda g: g.gradient(lambda rbm: likelihood.set_gradient(rbm, g.v, g.v.flip(0), g.h)),
    "Offsets.start": lambda g: g.gradient(lambda rbm: g.centered(rbm, likelihood.Offsets.start(rbm, g.v[3]))),
    "Offsets.__init__": lambda g: g.gradient(lambda rbm: g.centered(rbm, likelihood.Offsets(g.v[3], g.h[3]))),
}
"""Named as the class or function of the package is; see `test_every_public_function_is_here`."""

PAIRS = [("bernoulli", "bernoulli"), ("gaussian", "bernoulli"), ("binomial(trials=3)", "relu"), ("drelu", "bernoulli")]
NO_DATA = {
    "Units.as_linear",
    "Scaling.observed",
    "DBN.__init__",
    "RBM.__init__",
    "Path.__init__",
    "Scaling.__init__",
    "Offsets.update",
}
"""They take parameters, or what another function of these gives."""

IN_DOUBLE = {"Units.fit_marginals", "independent_base", "autocorrelation", "RBM.initialize", "Scaling.inverse"}
"""They keep the precision of numbers that are given in float64."""

each_call = pytest.mark.parametrize("name", CALLS)
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda dtype: str(dtype).removeprefix("torch."))


def outcome(name: str, given: Given) -> list[Any]:
    """What the call gives, a tensor or number after the other, or the sentence that refuses it."""
    try:
        return tree_leaves(CALLS[name](given))
    except InputError as refusal:
        return [str(refusal)]


def check_same(found: list[Any], wanted: list[Any], **tolerance: Any) -> None:
    assert len(found) == len(wanted)
    for each, of_floats in zip(found, wanted, strict=True):
        if isinstance(each, Tensor):
            assert_close(each, of_floats, **tolerance)
        else:
            assert each == of_floats


@each_model
@each_call
def test_every_type_gives_what_floats_give(name: str, model: torch.dtype) -> None:
    tolerance = {"rtol": 1e-6, "atol": 1e-6, "check_dtype": False} if name in IN_DOUBLE else {"rtol": 0, "atol": 0}
    for pair in PAIRS:
        wanted = outcome(name, Given(pair, model, torch.float32))
        for states in TYPES if model == torch.float32 else (torch.uint8, torch.bfloat16, torch.float64):
            check_same(outcome(name, Given(pair, model, states)), wanted, **tolerance)


@pytest.fixture
def defaults() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@each_call
@pytest.mark.usefixtures("defaults")
def test_other_defaults_change_nothing(name: str) -> None:
    for pair in PAIRS:
        for model, states in ((torch.float32, torch.int64), (torch.float64, torch.float32)):
            wanted = outcome(name, Given(pair, model, states))
            given = [Given(pair, model, states) for _ in range(2)]
            for one, (dtype, device) in zip(given, ((torch.float64, None), (torch.float32, "meta")), strict=True):
                torch.set_default_dtype(dtype)
                torch.set_default_device(device)
                found = outcome(name, one)
                torch.set_default_dtype(torch.float32)
                torch.set_default_device(None)
                check_same(found, wanted, rtol=0, atol=0)


def test_every_public_function_is_here() -> None:
    """Each that takes a tensor or an array, by its annotations; those of bases under the base's name."""
    classes = (
        RBM,
        Units,
        Annealed,
        Path,
        DBN,
        Scaling,
        likelihood.Offsets,
        *(DataChains, PersistentChains, TemperedChains),
    )
    functions = [getattr(likelihood, name) for name in likelihood.__all__]
    functions += [anneal, anneal_back, anneal_between, path_from_data, layer_bounds, layer_ratio]
    functions += [autocorrelation, idle_layers, independent_base]
    found = {function.__name__ for function in functions if inspect.isfunction(function)}
    for kind in classes:
        for name, method in inspect.getmembers(kind, callable):
            is_own = (getattr(method, "__module__", None) or "").startswith("dbn.") and not inspect.isclass(method)
            if is_own and (name in ("__init__",) or not name.startswith("_")) and takes_numbers(method):
                found.add(f"{kind.__name__}.{name}")
    inherited = {name for name in found if name.startswith("Annealed.") and name not in CALLS}
    assert found - inherited - NO_DATA - set(CALLS) == set()


def takes_numbers(method: Callable[..., Any]) -> bool:
    annotations = [str(each.annotation) for each in inspect.signature(method).parameters.values()]
    return any(
        ("Tensor" in each or "Array" in each or "AnyRows" in each) and "[str" not in each for each in annotations
    )


@pytest.mark.parametrize("short", SHORT, ids=str)
def test_a_short_model_gives_what_its_weights_give_in_float32(short: torch.dtype) -> None:
    for pair in PAIRS:
        given, single = Given(pair, short, torch.uint8), Given(pair, short, torch.uint8)
        single.rbm = copy.deepcopy(single.rbm).float()
        step = torch.finfo(short).eps
        for name in (
            "RBM.up",
            "RBM.energy",
            "RBM.free_energy",
            "Units.log_partition",
            "log_partition",
        ):
            for found, wanted in zip(outcome(name, given), outcome(name, single), strict=True):
                found, wanted = torch.as_tensor(found).float(), torch.as_tensor(wanted).float()
                assert_close(found, wanted, rtol=4 * step, atol=16 * step)


@pytest.mark.parametrize("short", SHORT, ids=str)
def test_annealing_refuses_short_models(short: torch.dtype) -> None:
    for name in ("ais", "reverse_ais", "bracket", "layer_ratio", "TemperedChains.negatives"):
        [refusal] = outcome(name, Given(PAIRS[0], short, torch.float32))
        assert refusal == f"annealing needs parameters in float32 or float64, not {short}: use rbm.float()"


def test_gray_levels_and_complex_numbers_are_refused() -> None:
    given = Given(PAIRS[0], torch.float32, torch.float32)
    with pytest.raises(InputError, match="binarize the data"):
        likelihood.dbn_bound(given.stack, given.v * 0.5, 0.0)
    with pytest.raises(InputError, match="v holds complex numbers"):
        given.rbm.up(given.v.to(torch.complex64))


def test_chains_that_start_at_bytes_start_at_their_fractions() -> None:
    given = Given(PAIRS[0], torch.float32, torch.uint8)
    n, of_bytes = len(given.v), given.v * 255
    found, wanted = (given.stack.sample(n, steps=1, start=start) for start in (of_bytes, given.v.float()))
    assert torch.equal(found, wanted)
