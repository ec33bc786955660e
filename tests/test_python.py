"""What Python users give and get: numbers of any library, modules, defaults of torch, sentences in Python's words."""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import pictures
from torch import Tensor, nn
from torch.testing import assert_close

import dbn
from dbn.arrays import as_array, as_tensor
from dbn.errors import InputError, check_types, naming_arguments
from dbn.models import DBN, RBM, Bernoulli, Gaussian, Scaling

BYTES, LABELS = pictures()
"""(N, 6, 6) uint8, and classes."""
PIXELS = torch.as_tensor(BYTES).flatten(1).float() / 255
QUICK: Any = {"hidden": [5, 3], "epochs": 1, "batch_size": 40, "device": "cpu"}


@pytest.fixture(scope="module")
def of_floats() -> DBN:
    return dbn.pretrain(PIXELS, **QUICK)


@pytest.fixture(scope="module")
def of_bytes() -> DBN:
    return dbn.pretrain(BYTES, **QUICK)


# Numbers of any library

BITS = (PIXELS > 0.5).float()
KINDS: dict[str, Callable[[Tensor], Any]] = {
    "bfloat16": Tensor.bfloat16,
    "float16": Tensor.half,
    "float64": Tensor.double,
    "integers": Tensor.long,
    "bool": Tensor.bool,
    "sparse": Tensor.to_sparse,
    "learned": lambda x: x.clone().requires_grad_(),
    "list": Tensor.tolist,
    "numpy": Tensor.numpy,
    "numpy float16": lambda x: x.numpy().astype(np.float16),
    "swapped bytes": lambda x: x.numpy().astype(">f8"),
    "uint16": lambda x: x.numpy().astype(np.uint16),
    "strides": lambda x: np.repeat(x.numpy(), 2, axis=1)[:, ::2],
    "images": lambda x: x.reshape(-1, 6, 6),
    "color images": lambda x: x.reshape(-1, 1, 6, 6).numpy(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_any_kind_train_and_use_a_stack(kind: str, of_floats: DBN) -> None:
    given = KINDS[kind](BITS)
    assert torch.equal(of_floats.up(given), of_floats.up(BITS))
    assert torch.equal(of_floats.scale(given).float(), BITS)
    trained = dbn.pretrain(given, **QUICK)
    assert torch.equal(trained.layers[0].weight, dbn.pretrain(BITS, **QUICK).layers[0].weight)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[0, 1], [1]] * 20, "x is no array of numbers: give rows of equal length"),
        (torch.zeros(20, 4, device="meta"), "on meta, whose values cannot be read"),
        (torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)], layout=torch.jagged), "x is a tensor nested"),
        (None, "x is missing"),
        ("words", "x is a str, but an array"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_array_of_numbers_is_said(given: Any, said: str, of_floats: DBN) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        dbn.pretrain(given, [4], epochs=1)
    with pytest.raises(InputError):
        of_floats.up(given)


def test_tensors_stay_where_they_are_and_arrays_share_nothing_that_cannot_be_written() -> None:
    x = torch.rand(2, 3, requires_grad=True)
    assert as_tensor(x) is x
    assert as_array(x).base is not None
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    as_tensor(frozen)[0, 0] = 1  # torch warns where it cannot
    assert frozen[0, 0] == 0


# The stack as a module


def test_bytes_go_through_the_scaling_of_training(of_bytes: DBN, of_floats: DBN) -> None:
    assert of_bytes.scaling.divisor == 255
    assert torch.equal(of_bytes.up(BYTES), of_bytes.up(PIXELS))
    assert torch.equal(of_bytes.up(torch.as_tensor(BYTES)), of_bytes.up(of_bytes.scale(BYTES)))
    assert torch.equal(of_floats.up(BYTES), of_floats.up(PIXELS))  # above 127, so of 0 … 255 for certain


def test_standardized_columns_of_integers_and_floats() -> None:
    x = np.arange(120).reshape(40, 3) % 7
    stack = dbn.pretrain(x, hidden=4, visible="gaussian", epochs=1)
    assert_close(stack.scale(x), (torch.as_tensor(x) - stack.scaling.shift) / stack.scaling.spread)
    assert torch.equal(stack.up(x), stack.up(stack.scale(x)))
    assert not torch.equal(stack.up(x.astype(np.float32)), stack.up(x))  # floats are scaled already


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (PIXELS[:, :30], "36 bernoulli units need rows of 36 values, not a tensor of shape (150, 30)"),
        (PIXELS[0], "not a tensor of shape (36,)"),
        (BYTES[:, :5], "not a tensor of shape (150, 30)"),
        (PIXELS * 255, "x has values from 0 to 239"),
        (PIXELS - 0.5, "x has values from -0.5 to 0.43"),
        (PIXELS * torch.nan, "x has values from nan to nan"),
    ],
    ids=["width", "row", "images", "undivided", "centered", "nan"],
)
def test_other_rows_are_refused(given: Any, said: str, of_floats: DBN) -> None:
    for use in (of_floats, of_floats.up, nn.Sequential(of_floats, nn.Linear(3, 2))):
        with pytest.raises(InputError, match=re.escape(said)):
            use(given)


def test_a_stack_is_a_module_that_can_be_trained_on(of_floats: DBN) -> None:
    assert torch.equal(of_floats(PIXELS), of_floats.up(PIXELS))
    network = nn.Sequential(of_floats, nn.Linear(3, 2))
    network(PIXELS).sum().backward()
    assert all(parameter.grad is None for parameter in of_floats.parameters())
    mine = DBN(of_floats.layers).requires_grad_()
    try:
        nn.Sequential(mine, nn.Linear(3, 2))(PIXELS).sum().backward()
        assert mine.layers[0].weight.grad is not None
    finally:
        mine.requires_grad_(False).zero_grad()
    slopes = torch.func.jacrev(of_floats.up)(PIXELS[:2])
    assert slopes.shape == (2, 3, 2, 36)
    assert of_floats.up(PIXELS[:0]).shape == (0, 3)


def test_an_rbm_is_a_module_too() -> None:
    rbm = dbn.train_rbm(PIXELS, hidden=4, epochs=1)
    assert torch.equal(rbm(PIXELS), rbm.up(PIXELS.numpy()))
    with pytest.raises(InputError, match="36 bernoulli units need rows of 36 values"):
        rbm.up(PIXELS[:, :5])


def test_gradients_are_off_however_a_stack_was_come_by(tmp_path: Path) -> None:
    trained = dbn.pretrain(PIXELS, **QUICK, run=tmp_path / "run")
    again = dbn.pretrain(PIXELS, **QUICK, run=tmp_path / "run", resume=True)
    for model in (trained, again, dbn.load(tmp_path / "run"), dbn.train_rbm(PIXELS, 4, epochs=1)):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.training
    assert all(parameter.requires_grad for parameter in trained.to_mlp(2).parameters())


# Defaults of torch


def everything(folder: Path) -> dict[str, Any]:
    """What dbn gives, in numbers."""
    stack = dbn.pretrain(PIXELS.double(), **QUICK, estimator="pcd", centered=True, run=folder / "pre")
    dbn.pretrain(PIXELS.double(), **QUICK, estimator="pcd", centered=True, run=folder / "pre", resume=True)
    tempered = dbn.pretrain(BYTES, [4], epochs=1, estimator="pt", binarize="fixed", device="cpu")
    gaussian = dbn.pretrain(PIXELS, **QUICK, visible="gaussian", average=0.9, l1=0.1, sparsity_target=0.1)
    found = dbn.compare(
        PIXELS, LABELS, ["dbn", "lsuv", "batch_norm", "torch_default", "sparse"], pretrained=folder / "pre",
        labels=20, seeds=1, epochs=1, batch_size=10, hidden_dropout=0.2, average=0.9, device="cpu",
    )  # fmt: skip
    bits = BITS[:, :4]
    rbm = RBM(Bernoulli(4), Bernoulli(3)).to_empty(device="cpu")
    nn.init.constant_(rbm.weight, 0.1)
    nn.init.zeros_(rbm.visible.bias)
    nn.init.zeros_(rbm.hidden.bias)
    likelihood = dbn.likelihood
    weights = [parameter for model in (stack, tempered, gaussian) for parameter in model.parameters()]
    assert {parameter.dtype for parameter in (*weights, *rbm.parameters())} == {torch.float32}
    assert {parameter.device.type for parameter in weights} == {"cpu"}
    return {
        "weights": weights,
        "up": dbn.load(folder / "pre").up(PIXELS.double()),
        "sample": gaussian.sample(3, steps=2),
        "evaluated": dbn.evaluate(stack, BITS, ais=10, chains=5, device="cpu").log_z,
        "errors": [arm["test_error"] for arm in found.arms.values()],
        "classes": found.best().predict_proba(PIXELS.double()),
        "ais": likelihood.bracket(rbm, bits, 10, 5).difference,
        "exact": (likelihood.log_partition(rbm), likelihood.divergence(rbm, bits)),
        "own": [rbm.free_energy(bits.double()).float(), likelihood.pseudo_log_likelihood(rbm, bits.double())],
    }


@pytest.fixture
def defaults() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.usefixtures("defaults")
def test_everything_is_the_same_under_other_defaults(tmp_path: Path) -> None:
    wanted = everything(tmp_path / "plain")
    torch.set_default_dtype(torch.float64)
    doubled = everything(tmp_path / "float64")
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("meta")
    elsewhere = everything(tmp_path / "meta")
    torch.set_default_device(None)
    assert_close(doubled, wanted, rtol=0, atol=0, check_dtype=False)
    assert_close(elsewhere, wanted, rtol=0, atol=0)


# What is shown


def test_representations_show_sizes_and_units() -> None:
    stack = DBN([RBM(Gaussian(8), Bernoulli(4))], Scaling(1.0, torch.zeros(8), torch.ones(8)))
    assert repr(stack.layers[0]) == "RBM(Gaussian(8), Bernoulli(4))"
    assert "(0): RBM(Gaussian(8), Bernoulli(4))" in repr(stack)
    assert "Scaling(divisor=1, standardized=8)" in repr(stack)
    assert repr(Scaling()) == "Scaling(divisor=255)"
    found = dbn.compare(PIXELS, LABELS, "he_normal", hidden=7, labels=20, seeds=1, epochs=1)
    assert repr(found.best()).startswith("Classifier(\n  width=36, classes=['0', '1'")
    assert repr(found) == found.table()


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_bars_are_shown_when_asked_for(progress: bool | None, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is no terminal here, as in a notebook."""
    dbn.pretrain(PIXELS, **QUICK, progress=progress)
    dbn.compare(PIXELS, LABELS, "he_normal", hidden=7, labels=20, seeds=1, epochs=1, progress=progress)
    err = capsys.readouterr().err
    assert ("layer 2" in err, "he_normal" in err) == (shown, shown)


# Sentences


@pytest.mark.parametrize(
    ("option", "argument"),
    [
        ("lower --learning-rate, which is 3 there", "lower learning_rate, which is 3 there"),
        ("--labels 30 is more", "labels=30 is more"),
        ("use --visible gaussian", "use visible='gaussian'"),
        ("use --device auto, cuda or cpu", "use device='auto', cuda or cpu"),
        ("--precision bf16 needs", "precision='bf16' needs"),
        ("--learning-rate 1e-05.", "learning_rate=1e-05."),
        ("--hidden 5 6 (now 5)", "hidden 5 6 (now 5)"),
        ("continue with --resume or --no-reverse --exact", "continue with resume=True or reverse=False exact=True"),
        ("a-b --- x--y", "a-b --- x--y"),
    ],
)
def test_options_are_named_as_arguments(option: str, argument: str) -> None:
    with pytest.raises(InputError) as error, naming_arguments():
        raise InputError(option)
    assert str(error.value) == argument


def test_types_of_arguments_are_checked() -> None:
    @check_types
    def f(x: Tensor, n: int = 3, name: str | None = None, rate: float = 0.1, of: list[int] | None = None) -> int:
        """Words."""
        return n

    assert (f(torch.zeros(2), np.int64(4)), f.__doc__, f.__name__) == (4, "Words.", "f")
    assert f(torch.zeros(2), name=None, rate="any", of=3) == 3  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"f: x must be of type Tensor, not ndarray: use torch.as_tensor$"):
        f(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"f: name must be of type str or NoneType, not int$"):
        f(torch.zeros(2), name=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument"):
        f()  # type: ignore[call-arg]


SMALL = RBM(Bernoulli(4), Bernoulli(3))
MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "a callback": (lambda: dbn.pretrain(PIXELS, [4], callback=3), "callback must be a function of one argument"),
    "its callback": (lambda: dbn.compare(PIXELS, LABELS, hidden=4, callback=3), "callback must be a function"),
    "no hidden": (lambda: dbn.pretrain(PIXELS, []), "hidden needs at least one value"),
    "a name": (lambda: dbn.pretrain(PIXELS, hiden=[3]), "dbn.pretrain has no option 'hiden', did you mean 'hidden'?"),
    "a place": (lambda: dbn.train_rbm(PIXELS, devise="cpu"), "dbn.train_rbm has no option 'devise', did you mean 'dev"),
    "a width": (lambda: dbn.compare(PIXELS, LABELS, hidn=3), "dbn.compare has no option 'hidn', did you mean 'hidden'"),
    "arms": (lambda: dbn.compare(PIXELS, LABELS, 3, hidden=4), "init must be a word, not 3"),
    "stacks": (lambda: dbn.compare(PIXELS, LABELS, pretrained=3), "pretrained must be a path, not 3"),
    "a rate": (lambda: dbn.pretrain(PIXELS, [4], learning_rate=-1), "learning_rate must be a number above 0, not -1"),
    "a run": (lambda: dbn.pretrain(PIXELS, [4], run=3), "run must be a path, not 3"),
    "a file": (lambda: dbn.load(3), "path must be a path, not 3"),
    "a classifier": (lambda: dbn.load_classifier(None), "path must be a path, not None"),
    "test rows": (lambda: dbn.evaluate(SMALL, None), "the given data set is missing"),
    "a network": (lambda: dbn.initialize(3, "zeros"), "initialize: network must be of type Module, not int"),
    "signals": (lambda: dbn.signal_propagation(3, PIXELS, LABELS), "signal_propagation: network must be of type"),
    "inputs": (
        lambda: dbn.signal_propagation(nn.Sequential(nn.Linear(5, 2)), PIXELS, torch.as_tensor(LABELS)),
        "a batch (150, 36) of torch.float32 with labels of torch.int64 does not go through the network",
    ),
    "log Z": (lambda: dbn.likelihood.log_partition(3), "log_partition: rbm must be of type RBM, not int"),
    "ais": (lambda: dbn.likelihood.ais(SMALL, [[0, 1]]), "ais: data must be of type Tensor, not list"),
    "a bound": (lambda: dbn.likelihood.dbn_bound(SMALL, BITS, 0.0), "dbn_bound: stack must be of type DBN, not RBM"),
    "samples": (lambda: dbn.likelihood.sample(SMALL, -1), "a number of samples is at least 0, not -1"),
    "draws": (lambda: DBN([SMALL]).sample("a"), "DBN.sample: n must be of type int, not str"),
    "starts": (lambda: DBN([SMALL]).sample(2, start=BITS[:2]), "4 bernoulli units need rows of 4 values"),
    "a top": (lambda: DBN([SMALL]).down(BITS), "3 bernoulli units need rows of 3 values"),
    "layers": (lambda: DBN([3]), "a stack needs at least one layer: give a list of RBMs"),
    "sizes": (lambda: RBM(3, 4), "RBM: visible must be of type Units, not int"),
    "units": (lambda: Bernoulli(2.5), "the number of bernoulli units must be a whole number, not 2.5"),
    "an arm": (lambda: dbn.initializers.parse_arm(3), "parse_arm: text must be of type str, not int"),
    "a stack": (lambda: dbn.initializers.from_dbn(SMALL), "from_dbn: stack must be of type DBN, not RBM"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_in_one_sentence_without_a_full_stop(name: str) -> None:
    mistake, said = MISTAKES[name]
    with pytest.raises(InputError, match=re.escape(said)) as error:
        mistake()
    assert not str(error.value).endswith(".")


def test_one_rbm_is_a_stack() -> None:
    assert DBN(SMALL).layers == [SMALL]  # type: ignore[arg-type]


def test_what_an_overwritten_run_was_is_said_where_the_new_one_diverges(tmp_path: Path) -> None:
    options: Any = QUICK | {"run": tmp_path / "run", "overwrite": True}
    dbn.pretrain(PIXELS, **options)
    with pytest.raises(InputError, match=r"diverged .*; the run that was in .*run is replaced and gone$"):
        dbn.pretrain(PIXELS, **options, learning_rate=1e12)
    with pytest.raises(InputError, match="which is 1e") as error:
        dbn.pretrain(PIXELS, **options | {"run": tmp_path / "new"}, learning_rate=1e12)
    assert "replaced" not in str(error.value)


def test_resuming_with_other_epochs_says_what_may_change(tmp_path: Path) -> None:
    options: Any = QUICK | {"run": tmp_path / "run"}
    dbn.pretrain(PIXELS, **options)
    said = r"run was started with epochs=1 \(now 9\): resume it with the same, train the last layer alone for more"
    with pytest.raises(InputError, match=said):
        dbn.pretrain(PIXELS, **options | {"epochs": 9}, resume=True)


def test_other_ranks_need_no_folder_for_a_complete_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"init": "he_normal", "hidden": 7, "labels": 20, "seeds": 1, "epochs": 1, "device": "cpu"}
    whole = dbn.compare(PIXELS, LABELS, **options, run=tmp_path / "run")
    ranks = import_module("dbn.training.distributed")
    sent: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "broadcast_state", lambda state: sent.append(state) or state)
        first = dbn.compare(PIXELS, LABELS, **options, run=tmp_path / "run", resume=True)
    with monkeypatch.context() as patch:
        received = iter(sent)
        patch.setattr(ranks, "is_main", lambda: False)
        patch.setattr(ranks, "broadcast_state", lambda state: next(received))
        other = dbn.compare(PIXELS, LABELS, **options, run=tmp_path / "not here", resume=True)
    assert first.found == other.found == whole.found
    assert torch.equal(other.best().predict_proba(PIXELS), whole.best().predict_proba(PIXELS))
    assert not (tmp_path / "not here").exists()
