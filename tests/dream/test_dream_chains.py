"""Random numbers, Gibbs chains and imputed values of a page, against distributions that are known."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from enumeration import Z, make_rbm, randomize, support
from javascript import needs_node, run
from torch import Tensor
from torch.testing import assert_close

from dbn.dream.write import page_data
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units import half_line
from dbn.models.units.naming import make_units
from dbn.models.units.sites import number_of_states, states_at

pytestmark = needs_node
DRAWS = 10_000


def page(model: Any) -> dict[str, Any]:
    return page_data("a model", model, None, None, "float32")


def test_numbers_of_a_seed_are_uniform_and_its_own() -> None:
    code = """
    const random = randomFrom(3), again = randomFrom(3), other = randomFrom(4);
    const x = Array.from({ length: n }, random);
    return [x, Array.from({ length: n }, again), Array.from({ length: n }, other)];
    """
    x, again, other = (torch.tensor(each, dtype=torch.float64) for each in run(code, n=DRAWS))
    assert torch.equal(x, again)
    assert float(x.min()) > 0
    assert float(x.max()) < 1
    counts = (x * 100).long().bincount(minlength=100)
    assert float(((counts - DRAWS / 100) ** 2 / (DRAWS / 100)).sum()) < 99 + Z * (2 * 99) ** 0.5
    for pair in (x, other), (x[1:], x[:-1]):
        assert abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) < Z / DRAWS**0.5


def test_samples_of_every_kind_of_unit_have_its_moments_at_every_temperature() -> None:
    """At temperature T all parameters are divided by it, the measure of counts is not."""
    fields = [-4.0, -0.5, 0.0, 1.5]
    cases, wanted = [], []
    for kind, temperature in product(("bernoulli", "spin", "binomial(trials=3)", "gaussian", "relu"), (1.0, 2.0)):
        units = make_units(kind, 4)
        if "precision" in units.natural():
            units.load_state_dict({"bias": torch.zeros(4), "log_precision": torch.tensor([0.0, 0.5, 1.0, -0.5])})
        data = page(DBN([RBM(make_units("bernoulli", 4), units)]))
        cases.append({"model": data, "temperature": temperature})
        theta = {name: value / temperature for name, value in units.natural().items()}
        at = units.with_natural({name: value.detach() for name, value in theta.items()})
        field = torch.tensor([fields]) / temperature
        mean = at.mean(field)[0]
        if kind == "relu":
            root = at.log_precision.mul(0.5).exp()
            variance = half_line.moments(field[0] / root)[1] / root**2
        else:
            p = mean if kind == "bernoulli" else (mean + 1) / 2 if kind == "spin" else mean / 3
            scale = {"spin": 4, "binomial(trials=3)": 3}.get(kind, 1)
            variance = 1 / at.natural()["precision"] if kind == "gaussian" else scale * p * (1 - p)
        wanted.append((mean.detach().double(), variance.detach().double()))
    code = """
    const random = randomFrom(1);
    return cases.map(({ model, temperature }) => {
      const units = prepare(model).rbms[0].hidden, sums = fields.map(() => [0, 0, 0]);
      for (let k = 0; k < n; k++) {
        sample(units, fields, random, temperature).forEach((x, i) => {
          [x, x * x, x ** 4].forEach((power, place) => { sums[i][place] += power; });
        });
      }
      return [sums, mean(units, fields, temperature)];
    });
    """
    for (sums, means), (mean, variance) in zip(run(code, cases=cases, fields=fields, n=DRAWS), wanted, strict=True):
        first, second, fourth = (torch.tensor(sums, dtype=torch.float64) / DRAWS).T
        assert_close(torch.tensor(means, dtype=torch.float64), mean, rtol=1e-5, atol=1e-6)
        assert ((first - mean).abs() < Z * (variance / DRAWS).sqrt() + 1e-6).all()
        error = ((fourth - second**2).clamp(min=0) / DRAWS).sqrt()
        assert ((second - variance - mean**2).abs() < Z * error + 1e-5).all()


def test_samples_of_categories_have_their_probabilities() -> None:
    units = make_units("categorical(states=3)", 6)
    field = torch.tensor([[0.5, -1.0, 2.0, 0.0, 0.0, -3.0]])
    data = page(DBN([RBM(make_units("bernoulli", 2), units)]))
    code = """
    const random = randomFrom(1), units = prepare(model).rbms[0].hidden, sum = new Float64Array(6);
    for (let k = 0; k < n; k++) sample(units, field, random).forEach((x, i) => { sum[i] += x; });
    return sum;
    """
    share = torch.tensor(run(code, model=data, field=field[0].tolist(), n=DRAWS)) / DRAWS
    p = units.mean(field)[0].detach()
    assert ((share - p).abs() < Z * (p * (1 - p) / DRAWS).sqrt() + 1e-6).all()


@torch.no_grad()
def test_chains_have_the_distribution_of_the_rbm_at_every_temperature() -> None:
    rbm = make_rbm("bernoulli", "bernoulli").float()
    states, _ = support(rbm.visible)
    code = """
    const m = prepare(model), random = randomFrom(0), place = (v) => v.reduce((sum, x) => 2 * sum + x, 0);
    return temperatures.map((temperature) => {
      let v = startOfNoise(m, random);
      return Array.from({ length: n }, () => place(v = dreamStep(m, v, random, temperature).next));
    });
    """
    for temperature, places in zip(
        (1.0, 0.5), run(code, model=page(DBN([rbm])), n=DRAWS, temperatures=[1.0, 0.5]), strict=True
    ):
        cold = RBM(rbm.visible, rbm.hidden)
        cold.load_state_dict({name: value / temperature for name, value in rbm.state_dict().items()})
        p = (-cold.free_energy(states.float())).softmax(0).double()
        order = (states @ torch.tensor([4.0, 2, 1], dtype=states.dtype)).long()
        hits = torch.nn.functional.one_hot(torch.tensor(places), 8).double()[:, order]
        blocks = hits.unflatten(0, (100, -1)).mean(1)  # which are nearly independent
        assert ((blocks.mean(0) - p).abs() < Z * blocks.std(0) / 10).all()


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_step_that_holds_data_draws_every_layer_at_the_temperature(temperature: float) -> None:
    layers = [RBM(make_units("bernoulli", size), make_units("bernoulli", 2)) for size in (3, 2)]
    for place, rbm in enumerate(layers):
        randomize(rbm, place)
    code = """
    const m = prepare(model), random = randomFrom(0);
    return Array.from({ length: n }, () => {
      const [below, top] = heldStep(m, [1, 0, 1], [], random, temperature).layers;
      return 8 * below[0] + 4 * below[1] + 2 * top[0] + top[1];
    });
    """
    places = torch.tensor(run(code, model=page(DBN(layers)), n=DRAWS, temperature=temperature)).long()
    low, high = layers
    states = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])

    def chances(units: Any, field: Tensor) -> Tensor:
        """Of each of the states, (B, 4)."""
        on = ((field + units.bias) / temperature).sigmoid()[:, None]
        return (states * on + (1 - states) * (1 - on)).prod(-1)

    up = chances(low.hidden, low.hidden_field(torch.tensor([[1.0, 0, 1]])))  # (1, 4)
    seen = up @ chances(high.hidden, high.hidden_field(states))  # of the top, (1, 4)
    p = (seen.T * chances(high.visible, high.visible_field(states))).T.flatten().double()
    share = places.bincount(minlength=16) / DRAWS
    assert ((share - p).abs() < Z * (p * (1 - p) / DRAWS).sqrt() + 1e-6).all()


@pytest.mark.parametrize("untied", [False, True])
def test_a_step_in_a_stack_goes_down_through_all_layers_and_holds_the_class(untied: bool) -> None:
    below = [
        RBM(make_units("gaussian", 5), make_units("bernoulli", 4)),
        RBM(make_units("bernoulli", 4), make_units("bernoulli", 3)),
    ]
    top = label_rbm("bernoulli", 3, make_units("relu", 2), 2)
    model = LabelModel(top, ["a", "b"], below, generative_rbms=copy.deepcopy(below) if untied else ())
    for place, rbm in enumerate([*model.layers, *model.downwards]):
        randomize(rbm, place)
    code = """
    const m = prepare(model), random = randomFrom(0), found = [];
    for (let k = 0; k < 20; k++) found.push(dreamStep(m, startOf(m, [1, 2, 3, 4, 5], random), random, 1, 1));
    return found;
    """
    for found in run(code, model=page(model)):
        assert [len(each) for each in found["layers"]] == [4, 3, 2]
        assert found["next"][3:] == found["classes"] == [0, 1]
        assert found["next"][:3] == found["layers"][1]
        h = torch.tensor([found["layers"][0]], dtype=torch.float32)
        assert_close(torch.tensor([found["visible"]]), model.downwards[0].down(h).detach(), rtol=1e-5, atol=1e-5)


HELD = """
const m = prepare(model), random = randomFrom(0);
return rows.map((row, k) => conditional(m, Float64Array.from(row), known[k], random, options));
"""


def held(model: Any, x: Tensor, known: Tensor, **options: Any) -> list[Any]:
    found: list[Any] = run(HELD, model=page(model), rows=(x * known).tolist(), known=known.tolist(), options=options)
    return found


@pytest.mark.parametrize("missing", ["", "absent"])
def test_values_that_impute_fills_in_exactly_are_its_values(missing: str) -> None:
    """One hole in each row, or every hole of a model that learned from rows with holes."""
    parts = "2 bernoulli + 3 categorical(states=3) + 1 binomial(trials=3) + 1 spin"
    rbm = RBM(make_units(parts, 7), make_units("bernoulli", 4))
    randomize(rbm, 0, 1.0)
    scaling = Scaling(1.0, codes=(0, 0, 3, 0, 0), missing=missing)
    stack = DBN([rbm], scaling).requires_grad_(False)
    rows = torch.tensor([[1.0, 0, 2, 3, -1], [0, 1, 1, 2, 1], [1, 1, 0, 0, 1], [0, 0, 0, 1, -1], [1, 0, 2, 1, 1]])
    holes = torch.eye(5).bool() if missing == "" else torch.eye(5).bool() | torch.eye(5).bool().roll(1, 1)
    x, known = scaling(rows), scaling.observed(~holes)
    found = held(stack, x, known)
    assert all(each["isExact"] for each in found)
    means = torch.tensor([each["mean"] for each in found])
    filled = stack.impute(rows, ~holes)
    assert_close(scaling.inverse(means), filled.float(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_values_filled_in_by_chains_have_the_conditional_mean() -> None:
    rbm = make_rbm("bernoulli", "bernoulli").float()
    states = states_at(rbm.visible.sites(), torch.arange(number_of_states(rbm.visible.sites())))
    known = torch.tensor([[False, False, True]])
    x = torch.tensor([[0.0, 0, 1]])
    agree = states[states[:, 2] == 1]
    p = (-rbm.free_energy(agree)).softmax(0)
    exact = p @ agree
    steps = 400
    found = held(DBN([rbm]), x.expand(40, 3), known.expand(40, 3), steps=steps, discard=20)
    means = torch.tensor([each["mean"] for each in found])  # of independent chains, one after the other
    assert not found[0]["isExact"]
    assert ((means.mean(0) - exact).abs() <= Z * means.std(0) / len(means) ** 0.5 + 1e-6).all()


@torch.no_grad()
def test_weighted_averages_are_those_of_a_model_of_rows_with_holes() -> None:
    """With two holes, each alone beside the observed units; Gaussian ones by samples of h."""
    rbm = make_rbm("gaussian", "bernoulli").float()
    rbm = RBM(make_units("3 gaussian", 3), rbm.hidden)
    randomize(rbm, 5, 0.7)
    stack = DBN([rbm], Scaling(1.0, missing="absent"))
    x, known = torch.tensor([[0.0, 0.0, 1.2]]), torch.tensor([[False, False, True]])
    exact = []
    for site in range(2):  # ∫ v p(v | v_3): a mixture over h of normal distributions
        h = torch.tensor(list(product((0.0, 1.0), repeat=3)))
        field = rbm.visible_field(h)
        observed = (field[:, 2] * 1.2) + (h * rbm.hidden.bias).sum(1)
        part = RBM(make_units("gaussian", 1), make_units("bernoulli", 3)).visible
        part.load_state_dict(
            {"bias": rbm.visible.bias[[site]], "log_precision": rbm.visible.natural()["0.precision"][[site]].log()}
        )
        log_w = observed + part.log_partition(field[:, [site]])
        exact.append(log_w.softmax(0) @ part.mean(field[:, [site]])[:, 0])
    found = held(stack, x.expand(40, 3), known.expand(40, 3), steps=400)
    means = torch.tensor([each["mean"] for each in found])
    for site in range(2):
        assert abs(means[:, site].mean() - exact[site]) < Z * means[:, site].std() / 40**0.5 + 0.01 * abs(exact[site])
    assert means[:, 2].tolist() == x[0, [2]].tolist() * 40
