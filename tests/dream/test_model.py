"""What a page computes without random numbers, against torch: every kind of unit, models, networks and scalings."""

from itertools import pairwise, product
from typing import Any

import pytest
import torch
from enumeration import HIDDEN, KINDS, make_rbm, randomize, rng, support
from javascript import needs_node, run
from torch import Tensor, nn
from torch.testing import assert_close

import dbn
from dbn.columns import Column
from dbn.dream.write import page_data
from dbn.errors import InputError
from dbn.models.autoencoder import Autoencoder
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.mlp import ACTIVATIONS, mlp
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units import half_line
from dbn.models.units.naming import make_units
from dbn.runs.classifier import Classifier

pytestmark = needs_node

DIGITS = dbn.data.load_splits("mnist-10k").train.x[:100]


def stack_of(*sizes: int, spread: float = 0.1) -> DBN:
    rbms = [RBM(make_units("bernoulli", v), make_units("bernoulli", h)) for v, h in pairwise(sizes)]
    for place, rbm in enumerate(rbms):
        randomize(rbm, place, spread)
    return DBN(rbms).requires_grad_(False)


def page(model: Any, judge: Any = None, weights: str = "float32", shape: Any = None) -> dict[str, Any]:
    return page_data("a model", model, judge, shape, weights)


def through(stack: DBN, x: Tensor) -> list[Tensor]:
    """Means of all layers, and the reconstruction."""
    found = [x]
    for rbm in stack.layers:
        found.append(rbm.up(found[-1]))
    h = found[-1]
    for rbm in reversed(stack.layers):
        h = rbm.down(h)
    return [*found[1:], h]


LOOK = """
const m = prepare(model);
return rows.map((row) => {
  const v = scaled(m, row), found = activities(m, v);
  return [...found, reconstruction(m, v, found)];
});
"""


@pytest.mark.parametrize(("weights", "most"), [("float32", 1e-5), ("float16", 1e-3)])
def test_layers_and_reconstructions_of_digits_are_those_of_torch(weights: str, most: float) -> None:
    stack = stack_of(784, 60, 40)
    data = page(stack, weights=weights, shape=(1, 28, 28))
    found = run(LOOK, model=data, rows=(DIGITS.double() / 255).tolist())
    wanted = through(stack, stack.scale(DIGITS))
    assert float(wanted[-1].std()) > 0.1
    for place, each in enumerate(wanted):
        assert_close(torch.tensor([row[place] for row in found]), each, rtol=0, atol=most)
    if weights == "float16":
        assert len(data["rbms"][0]["weight"]) == 4 * -(-784 * 60 * 2 // 3)


def test_every_pair_of_units_has_the_means_and_free_energies_of_torch() -> None:
    given, wanted = [], []
    for visible, hidden in product(KINDS, HIDDEN):
        rbm = make_rbm(visible, hidden).requires_grad_(False).float()
        v, h = (support(units)[0][::97][:20].float() for units in (rbm.visible, rbm.hidden))
        fields, codes = rbm.hidden_field(v), rbm.visible.codes
        if "drelu" in (visible, hidden):
            with pytest.raises(InputError, match="a page cannot compute drelu units"):
                page(DBN([rbm], Scaling(1, codes=codes)))
            continue
        given.append({"model": page(DBN([rbm], Scaling(1, codes=codes))), "v": v.tolist(), "h": h.tolist()})
        wanted.append((rbm.up(v), rbm.down(h), rbm.hidden.log_partition(fields)))
    code = """
    return given.map(({ model, v, h }) => {
      const rbm = prepare(model).rbms[0];
      return [v.map((x) => up(rbm, x)), h.map((x) => down(rbm, x)),
        v.map((x) => logPartition(rbm.hidden, hiddenField(rbm, x)))];
    });
    """
    for found, each in zip(run(code, given=given), wanted, strict=True):
        for own, torchs in zip(found, each, strict=True):
            assert_close(torch.tensor(own), torchs, rtol=1e-5, atol=1e-5)


def test_half_line_units_are_right_in_both_tails() -> None:
    t = torch.tensor(
        [-1e4, -300, -40, -8, -5.01, -4.99, -3.01, -2.99, -1, -1e-9, 0, 0.5, 3, 7.99, 8.01, 30, 900.0]
    ).double()
    code = "return t.map((x) => [halfLineMean(x), halfLineLog(x)]);"
    found = torch.tensor(run(code, t=t.tolist()), dtype=torch.float64)
    assert_close(found[:, 0], half_line.moments(t)[0], rtol=1e-9, atol=0)
    assert_close(found[:, 1], half_line.log_integral(t), rtol=1e-9, atol=1e-9)


def test_rows_of_a_table_are_scaled_and_come_back() -> None:
    table = [Column("gaussian"), Column("bernoulli", ("no", "yes")), Column("categorical", ("a", "b", "c"))]
    shift, spread = torch.tensor([3.0, 0, 0, 0, 0]), torch.tensor([2.0, 1, 1, 1, 1])
    scaling = Scaling(1, shift, spread, columns=["age", "is", "kind"], table=table, stored="floats")
    rbm = RBM(make_units("1 gaussian + 1 bernoulli + 3 categorical(states=3)", 5), make_units("bernoulli", 4))
    randomize(rbm, 0)
    data = page(DBN([rbm], scaling))
    assert [each["name"] for each in data["columns"]] == ["age", "is", "kind"]
    assert data["columns"][0] | {"least": -3.0, "greatest": 9.0, "start": 3.0} == data["columns"][0]
    assert [each.get("choices") for each in data["columns"]] == [None, ["no", "yes"], ["a", "b", "c"]]
    x = torch.tensor([[5.0, 1, 2], [2, 0, 0]])
    code = """
    const m = prepare(model);
    return [rows.map((row) => scaled(m, row)), rows.map((row) => unscaled(m, scaled(m, row))),
      unitsOf(m, [true, false, false])];
    """
    scaled, back, known = run(code, model=data, rows=x.tolist())
    assert_close(torch.tensor(scaled), scaling(x), check_dtype=False)
    assert_close(torch.tensor(back)[:, 0], x[:, 0], check_dtype=False)
    assert known == scaling.observed(torch.tensor([True, False, False])).tolist()


@pytest.mark.parametrize("below", [False, True])
def test_a_label_model_has_the_class_probabilities_of_torch(below: bool) -> None:
    first = [RBM(make_units("bernoulli", 784), make_units("bernoulli", 30))] if below else []
    top = label_rbm("bernoulli", 30 if below else 784, make_units("bernoulli", 20), 10)
    for place, rbm in enumerate([*first, top]):
        randomize(rbm, place, 0.1)
    top.weight.data[:, -10:] *= 20
    model = LabelModel(top, [str(digit) for digit in range(10)], first, Scaling(255.0)).requires_grad_(False)
    code = """
    const m = prepare(model);
    return rows.map((row) => { const v = scaled(m, row); return [classProbabilities(m, v), activities(m, v).at(-1)]; });
    """
    found = run(code, model=page(model, shape=(1, 28, 28)), rows=(DIGITS.double() / 255).tolist())
    proba = model.predict_proba(DIGITS)
    assert float(proba.max()) > 0.5
    assert_close(torch.tensor([row[0] for row in found]), proba, rtol=0, atol=1e-5)
    x = DIGITS.float() / 255
    for rbm in first:
        x = rbm.up(x)
    by_class = [top.up(torch.cat([x, torch.eye(10)[[y]].expand(len(x), 10)], 1)) for y in range(10)]
    expected = sum(proba[:, [y]] * each for y, each in enumerate(by_class))
    assert_close(torch.tensor([row[1] for row in found]), expected, rtol=0, atol=1e-5)


def classifier(activation: str, task: dict[str, Any], outputs: int = 3, normalize: bool = False) -> Classifier:
    sizes = [6, 5, 4, outputs]
    network = mlp(sizes, activation, normalize=normalize)
    randomize(network, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(generator=rng(2))
            module.running_var.uniform_(0.5, 2, generator=rng(3))
    return Classifier(network, {"sizes": sizes, **task, **Scaling(1.0).description()}).eval().requires_grad_(False)


CLASSES = {"classes": ["a", "b", "c"]}
TARGETS = {"targets": ["a", "b", "c"]}
NETWORKS = {
    **{name: classifier(name, CLASSES) for name in (*ACTIVATIONS, "identity")},
    "softmax": classifier("softmax(states=1)", CLASSES),
    "normalized": classifier("relu", CLASSES, normalize=True),
    "labels": classifier("tanh", {"task": "multilabel", **TARGETS}),
    "numbers": classifier(
        "tanh", {"task": "regress", **TARGETS, "target_shift": [5, 6, 7], "target_spread": [2, 3, 4]}
    ),
    "data": classifier("sigmoid", {"task": "autoencode", "targets": list("abcdef")}, 6),
}


def test_networks_have_the_answers_of_torch() -> None:
    x = torch.randn(20, 6, generator=rng())
    code = """
    return given.map((model) => {
      const { network } = prepare(model);
      return rows.map((row) => answersOf(network, networkActivities(network, row).at(-1)));
    });
    """
    found = run(code, given=[page(each) for each in NETWORKS.values()], rows=x.tolist())
    for (name, each), answers in zip(NETWORKS.items(), found, strict=True):
        outputs = each.network(x)
        if name == "data":
            wanted = Autoencoder(each.network, "sigmoid")(x)
        elif name == "numbers":
            wanted = each.task.valued(outputs)
        else:
            wanted = each.task.probabilities(outputs)
        assert_close(torch.tensor(answers), wanted, rtol=1e-5, atol=1e-5, msg=lambda said, name=name: f"{name}: {said}")
