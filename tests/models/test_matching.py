"""Data that meet a model: brought to its scale where that is certain, refused in one sentence elsewhere."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.matching import match
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian

RNG = np.random.default_rng(0)
PICTURES = torch.from_numpy(RNG.integers(0, 256, (40, 4)).astype(np.uint8))
DIGITS = torch.from_numpy(RNG.integers(0, 17, (40, 4)).astype(np.uint8))
BITS = torch.from_numpy(RNG.integers(0, 2, (40, 4)).astype(np.uint8))
REAL = torch.from_numpy(RNG.normal(170, 10, (40, 4)).astype(np.float32))

MODELS = {
    "bytes": Scaling.fitted(PICTURES, 255.0),
    "older bytes": Scaling(255.0),
    "fractions": Scaling.fitted(PICTURES / 255, 1.0),
    "bits": Scaling.fitted(BITS, 1.0),
    "older floats": Scaling(1.0),
    "digits": Scaling.fitted(DIGITS, 16.0),
    "digits as floats": Scaling.fitted(DIGITS.float(), 16.0),
    "0 to 255 as floats": Scaling.fitted(PICTURES.float(), 255.0),
    "standardized bytes": Scaling.fitted(PICTURES, 255.0, standardized=True),
    "standardized fractions": Scaling.fitted(PICTURES / 255, 1.0, standardized=True),
    "standardized digits": Scaling.fitted(DIGITS, 1.0, standardized=True),
    "real": Scaling.fitted(REAL, 1.0, standardized=True),
}


def as_trained(model: str, values: Tensor) -> Tensor:
    """The values, from those that training had after dividing."""
    scaling = MODELS[model]
    return values if scaling.shift is None else (values - scaling.shift) / scaling.spread


@pytest.mark.parametrize(
    ("model", "x", "values"),
    [
        ("bytes", PICTURES, PICTURES / 255),
        ("bytes", PICTURES / 255, PICTURES / 255),
        ("bytes", BITS.float(), BITS.float()),
        ("bytes", PICTURES * 0, PICTURES * 0.0),
        ("older bytes", PICTURES, PICTURES / 255),
        ("older bytes", PICTURES / 255, PICTURES / 255),
        ("fractions", PICTURES, PICTURES / 255),
        ("fractions", PICTURES / 255, PICTURES / 255),
        ("fractions", BITS, BITS.float()),
        ("bits", BITS, BITS.float()),
        ("bits", PICTURES, PICTURES / 255),
        ("bits", BITS.bool(), BITS.float()),
        ("older floats", PICTURES, PICTURES / 255),
        ("older floats", BITS, BITS.float()),
        ("digits", DIGITS, DIGITS / 16),
        ("digits", DIGITS / 16, DIGITS / 16),
        ("digits as floats", DIGITS.float(), DIGITS / 16),
        ("digits as floats", DIGITS, DIGITS / 16),
        ("0 to 255 as floats", PICTURES.float(), PICTURES / 255),
        ("0 to 255 as floats", PICTURES, PICTURES / 255),
        ("standardized bytes", PICTURES, PICTURES / 255),
        ("standardized bytes", PICTURES / 255, PICTURES / 255),
        ("standardized fractions", PICTURES, PICTURES / 255),
        ("standardized fractions", PICTURES / 255, PICTURES / 255),
        ("standardized digits", DIGITS, DIGITS.float()),
        ("standardized digits", DIGITS.float(), DIGITS.float()),
        ("real", REAL, REAL),
        ("real", REAL.to(torch.uint8), REAL.to(torch.uint8).float()),
    ],
)
def test_what_is_certain_is_brought_to_the_scale_of_training(model: str, x: Tensor, values: Tensor) -> None:
    found = match(MODELS[model], x, width=4)
    torch.testing.assert_close(found.scaling(x), as_trained(model, values), rtol=1e-6, atol=1e-6)
    brought_over = x is PICTURES and MODELS[model].divisor == 1
    assert any("bytes are divided by 255" in note for note in found.notes) == brought_over


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        ("bytes", BITS, "bytes from 0 to 1, .* values up to 255: .*--divisor 1 or --divisor 255$"),
        ("bytes", DIGITS, "bytes from 0 to 16, .*--divisor 16 or --divisor 255$"),
        ("older bytes", BITS, "--divisor 1 or --divisor 255$"),
        ("bytes", PICTURES.float(), "values from 0 to 255, .* in .0, 1.: .*--divisor 255"),
        ("bytes", DIGITS.float(), "values from 0 to 16, .*--divisor 16"),
        ("bytes", PICTURES / 127.5 - 1, r"values from -1 to 1, .*\(x \+ 1\)/2"),
        ("bytes", PICTURES / 255 / 255, "floats from 0 to 0.0039.*--divisor 1$"),
        ("fractions", DIGITS, "bytes from 0 to 16, .* in .0, 1.: .*--divisor 16 or --divisor 255$"),
        ("fractions", PICTURES.float(), "values from 0 to 255, .*--divisor 255"),
        ("fractions", PICTURES / 255 / 255, "floats from 0 to 0.0039"),
        ("bits", DIGITS, "--divisor 16 or --divisor 255$"),
        ("older floats", REAL, "trained on values in .0, 1."),
        ("digits", PICTURES, "values from 0 to 255 divided by 16, .*--divisor 255"),
        ("digits", BITS, "--divisor 1 or --divisor 16$"),
        ("digits as floats", DIGITS / 16, "floats from 0 to 1, .*--divisor 1 or --divisor 16$"),
        ("0 to 255 as floats", PICTURES / 255, "--divisor 1 or --divisor 255$"),
        ("standardized bytes", BITS, "--divisor 1 or --divisor 255$"),
        ("standardized bytes", PICTURES.float(), "values from 0 to 255, .*--divisor 255"),
        ("standardized fractions", DIGITS, "--divisor 16 or --divisor 255$"),
        ("standardized fractions", PICTURES.float(), "another scale .* standard deviations"),
        ("standardized digits", PICTURES, "another scale"),
        ("real", REAL / 100, "another scale .* standard deviations"),
        ("real", 160 + REAL / 100, "another scale .* as no column varies"),
    ],
)
def test_what_is_not_certain_is_refused(model: str, x: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        match(MODELS[model], x, width=4)
    assert "\n" not in str(refusal.value)
    assert not str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    ("model", "x", "divisor", "values"),
    [
        ("bytes", BITS, 1.0, BITS.float()),
        ("bytes", DIGITS, 16.0, DIGITS / 16),
        ("bytes", DIGITS, 255.0, DIGITS / 255),
        ("bytes", PICTURES.float(), 255.0, PICTURES / 255),
        ("fractions", DIGITS.float(), 16.0, DIGITS / 16),
        ("digits as floats", DIGITS / 16, 1.0, DIGITS / 16),
        ("real", REAL / 100, 0.01, REAL),
        ("real", 160 + REAL / 100, 1.0, 160 + REAL / 100),
    ],
)
def test_a_divisor_that_is_named_goes_before_all(model: str, x: Tensor, divisor: float, values: Tensor) -> None:
    found = match(MODELS[model], x, width=4, divisor=divisor)
    torch.testing.assert_close(found.scaling(x), as_trained(model, values), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"trained on values in \[0, 1\]"):
        match(MODELS["bytes"], PICTURES, width=4, divisor=16.0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("x", [PICTURES, DIGITS, BITS, BITS * PICTURES, PICTURES / 255, PICTURES.float(), REAL])
def test_a_row_is_judged_alike_whatever_is_beside_it(model: str, x: Tensor) -> None:
    """Refused, or the same numbers: in a batch of its own and beside rows of full pictures."""
    x = torch.cat([x, PICTURES.to(x.dtype), BITS.to(x.dtype)])
    for start in range(20):
        alone = x[start : start + 1]
        for batch in (x[start : start + 40], x[start:]):
            outcomes = []
            for rows in (alone, batch):
                try:
                    outcomes.append(match(MODELS[model], rows, width=4, by_row=True).scaling(rows)[:1])
                except InputError:
                    break
            else:
                assert torch.equal(*outcomes)


COLUMNS = ("a", "b", "c", "d")
NAMED = Scaling.fitted(PICTURES, 255.0, COLUMNS)


@pytest.mark.parametrize(
    ("limits", "x", "words"),
    [
        ((-1.0, 1.0), [[0.0, 2.0]], r"x has 2 in row 0, column 1 .*, but the model was trained on values in \[-1, 1\]"),
        (
            (-1.0, 1.0),
            [[-3.0, 1.0]],
            r"x has -3 in row 0, column 0 .*, but the model was trained on values in \[-1, 1\]",
        ),
        ((0.0, math.inf), [[-1.0, 4.0]], "x has -1 in row 0.* trained on values of 0 or more"),
        ((0.0, 16.0), [[2.0, 40.0]], r"x has 40 in row 0, .* trained on values in \[0, 16\]"),
    ],
)
def test_values_that_units_never_take_are_refused(
    limits: tuple[float, float], x: list[list[float]], words: str
) -> None:
    described = Scaling(1.0, stored="floats", values=(0.0, 1.0), limits=limits).description()
    scaling = Scaling.from_description(json.loads(json.dumps(described)))
    with pytest.raises(InputError, match=words):
        match(scaling, torch.tensor(x), width=2, bounded=False)
    assert match(scaling, torch.tensor([[0.5, 1.0]]), width=2, bounded=False).notes == ()


def test_columns_are_matched_by_their_names() -> None:
    found = match(NAMED, PICTURES, width=4, columns=("d", "a", "c", "b"))
    assert found.order == (1, 3, 2, 0)
    assert torch.equal(found.rows(PICTURES), PICTURES[:, [1, 3, 2, 0]])
    assert found.notes == ("x: columns are matched by their names",)
    assert match(NAMED, PICTURES, width=4, columns=COLUMNS)[1:] == (None, ())
    assert match(NAMED, PICTURES, width=4)[1:] == (None, ("x: columns have no names and are taken by their places",))
    assert match(MODELS["bytes"], PICTURES, width=4, columns=COLUMNS)[1:] == (None, ())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("a", "b", "c"), "x lacks the column 'd': give"),
        (("a", "b", "c", "d", "kind"), "x has the column 'kind' that the model was not trained on: .*--label-column"),
        (("a", "b", "C", "d"), "x lacks the column 'c' and has the column 'C' that"),
        ((), "x has 5 values an example, but the model takes 4: give"),
    ],
)
def test_a_column_too_few_or_too_many_is_named(columns: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        match(NAMED, torch.zeros(3, len(columns) or 5), width=4, columns=columns)


def test_what_a_model_knows_of_its_data_is_described() -> None:
    scaling = Scaling.fitted(PICTURES, 255.0, COLUMNS)
    again = Scaling.from_description(scaling.description())
    assert (again.stored, again.values, again.columns) == ("bytes", (0.0, 1.0), COLUMNS)
    assert Scaling(255.0).description() == {"divisor": 255.0, "shift": None, "spread": None}


def test_units_of_a_stack_say_what_it_takes_where_nothing_is_known() -> None:
    bounded, real = (DBN([RBM(units(4), Bernoulli(2))], Scaling(1.0)) for units in (Bernoulli, Gaussian))
    assert torch.equal(real.scale(REAL), REAL)
    with pytest.raises(InputError, match=r"the stack was trained on values in .0, 1.: .* divisor"):
        bounded.scale(REAL)
    assert torch.equal(bounded.scale(REAL, divisor=1000.0), REAL / 1000)


def test_constant_columns_have_spread_1_as_in_scikit_learn() -> None:
    x = torch.tensor([[1.0, 7.0, -2.0], [2.0, 7.0, 0.0], [6.0, 7.0, 5.0]])
    found, expected = Scaling.fitted(x, 1.0, standardized=True), StandardScaler().fit(x.numpy())
    assert found.constant == [1]
    assert found.spread is not None
    assert np.allclose(found.spread, expected.scale_)
    later = x + torch.tensor([0.0, 3.0, 0.0])
    assert np.allclose(found(later), expected.transform(later.numpy()), atol=1e-6)


def test_a_stack_matches_the_columns_of_a_frame_by_their_names() -> None:
    frame = pytest.importorskip("pandas").DataFrame(REAL.numpy(), columns=list("abcd"))
    scaling = Scaling.fitted(REAL, 1.0, list("abcd"), standardized=True)
    stack = DBN([RBM(Gaussian(4), Bernoulli(2))], scaling).requires_grad_(False)
    stack.layers[0].weight.copy_(torch.arange(8.0).reshape(2, 4))
    shuffled = frame[list("dbca")]
    assert torch.equal(stack.scale(shuffled), scaling(REAL))
    assert torch.equal(stack(shuffled), stack(REAL))
    for call in (stack.scale, stack.up):
        with pytest.raises(InputError, match="x lacks the column 'd' and has the column 'e' that the stack"):
            call(frame.rename(columns={"d": "e"}))


@pytest.mark.parametrize("divisor", [0, -1.0, float("nan"), "max", "255"])
def test_a_divisor_of_data_that_meet_a_model_is_a_number_above_0(divisor: Any) -> None:
    with pytest.raises(InputError, match="--divisor must be a number above 0 for data that meet a model, not "):
        match(MODELS["bytes"], PICTURES, width=4, divisor=divisor)
    with pytest.raises(InputError, match=r"divide them, with --divisor 255$"):  # not by the greatest of these data
        match(MODELS["bytes"], PICTURES.float(), width=4)


@pytest.mark.parametrize(("columns", "is_refused"), [(1, False), (3, True)])
def test_most_columns_must_lie_far_out(columns: int, is_refused: bool) -> None:
    x = REAL.clone()
    x[:, :columns] /= 100
    if is_refused:
        with pytest.raises(InputError, match="another scale"):
            match(MODELS["real"], x, width=4)
    else:
        assert match(MODELS["real"], x, width=4).notes == ()


def test_bounds_of_what_is_certain() -> None:
    x = torch.zeros(40, 4, dtype=torch.uint8)
    x[0] = 128  # the least that sets the highest of eight bits
    assert match(MODELS["fractions"], x, width=4).scaling.divisor == 255
    x[0] = 127
    with pytest.raises(InputError, match="--divisor 127 or --divisor 255"):
        match(MODELS["fractions"], x, width=4)
    dark = PICTURES / 255 / float(PICTURES.max() / 255)  # up to 1
    assert match(MODELS["fractions"], dark / 90, width=4).scaling.divisor == 1
    with pytest.raises(InputError, match="trained on values up to 1: say"):
        match(MODELS["fractions"], dark / 110, width=4)


def test_the_jacobian_and_constants_are_exact() -> None:
    spread = torch.tensor([2.0, 10.0])
    bytes_of_two = torch.zeros(3, 2, dtype=torch.uint8)
    scaling = Scaling(255.0, torch.zeros(2), spread, stored="bytes")
    assert scaling.log_abs_det_jacobian(bytes_of_two) == pytest.approx(2 * np.log(255) + np.log(20))
    assert scaling.log_abs_det_jacobian(bytes_of_two.float()) == pytest.approx(np.log(20))
    x = torch.full((1000, 2), 0.1)  # whose mean is not 0.1 in double precision
    x[:, 1] = torch.linspace(0, 1, 1000)
    assert Scaling.fitted(x, 1.0, standardized=True).constant == [0]
