"""Files with a right checksum and wrong content: refused in one sentence that names file and field, or usable."""

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from schemas import tensor_file, wrong_data, wrong_tensors
from torch import Tensor, nn

import dbn
from dbn.columns import Column
from dbn.errors import InputError
from dbn.models import DBN, RBM, Scaling
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.mlp import mlp
from dbn.models.units.naming import make_units
from dbn.plotting.images import as_images, filters, tile
from dbn.runs.classifier import Classifier, read_classifier
from dbn.runs.label_model import load_label_model
from dbn.runs.weights import load
from dbn.storage.tensors import tensor_bytes
from dbn.tasks import TASKS

WIDTH, ROWS = 6, 4


class Format(NamedTuple):
    """A kind of file: a sound one, how it is read, and what is done with what was read."""

    tensors: Mapping[str, Tensor]
    description: Mapping[str, Any]
    read: Callable[[Path], Any]
    use: Callable[[Any], object]


def filled(module: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.1, generator=generator)
    return module.requires_grad_(False).eval()


TABLE = (Column("gaussian"), Column("bernoulli", ("no", "yes")), Column("categorical", ("a", "b", "c")))
MIXED = "1 gaussian + 1 bernoulli + 3 categorical(states=3)"
NUMBERS = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(1))
STANDARD = Scaling.fitted(NUMBERS, 1.0, standardized=True, columns=[f"c{n}" for n in range(WIDTH)])
STACKS: dict[str, tuple[str, str, Scaling]] = {
    "bernoulli": ("bernoulli", "bernoulli", Scaling(255.0, stored="bytes", values=(0.0, 1.0))),
    "gaussian": ("gaussian", "relu", STANDARD),
    "counts": ("binomial(trials=4)", "spin", Scaling(1.0, stored="floats", limits=(0.0, 4.0), values=(0.0, 3.0))),
    "categorical": ("categorical(states=3)", "binomial(trials=3)", Scaling(1.0, codes=3)),
    "mixed": (MIXED, "bernoulli", Scaling(1.0, table=TABLE, columns=["a", "b", "c"], missing="absent",
              limits=((-math.inf, math.inf), (0.0, 1.0), (-math.inf, math.inf)))),
}  # fmt: skip


def stack_file(visible: str, hidden: str, scaling: Scaling) -> Format:
    size = 5 if "+" in visible else WIDTH
    shape = (1, 2, 3) if scaling.codes is None else None
    rbms = [
        RBM(make_units(visible, size), make_units(hidden, 3)),
        RBM(make_units(hidden, 3), make_units("bernoulli", 2)),
    ]
    made = filled(DBN(rbms, scaling, shape))
    return Format(made.state_dict(), made.description(), load, use_stack)


def rows_for(scaling: Scaling, width: int) -> Tensor:
    return torch.zeros(ROWS, width, dtype=torch.uint8 if scaling.stored == "bytes" else torch.float32)


@torch.no_grad()
def use_stack(stack: DBN) -> None:
    """What sample, features, evaluate, impute, finetune and report do with it."""
    x = rows_for(stack.scaling, stack.width)
    found = stack.match(x)
    features = stack.up(found.scaling(found.rows(x)))
    stack.down(features)
    samples = stack.sample(ROWS, steps=2)
    if stack.image_shape is not None and stack.scaling.codes is None:
        tile(as_images(samples, stack.image_shape, stack.scaling), 2)
        filters(stack.layers, stack.image_shape)
    if stack.scaling.table:
        stack.cells(samples)
    holes = x.float()
    holes[0, 0] = math.nan
    stack.impute(holes, steps=3, discard=1, divisor=None if stack.scaling.codes else stack.scaling.divisor)
    repr(stack), stack.encoder(), stack.to_mlp(2)
    dbn.evaluate(stack, x, ais=3, chains=2, divisor=None if stack.scaling.codes else stack.scaling.divisor)


def label_file(*, below: bool) -> Format:
    rbm = label_rbm("bernoulli", 3 if below else WIDTH, make_units("bernoulli", 2), 3)
    lower = [RBM(make_units("gaussian", WIDTH), make_units("bernoulli", 3))] if below else []
    scaling = STANDARD if below else Scaling(255.0, stored="bytes")
    model = filled(LabelModel(rbm, ["a", "b", "<c>"], lower, scaling, None if below else (1, 2, 3)))
    return Format(model.state_dict(), model.description(), load_label_model, use_label_model)


def use_label_model(model: LabelModel) -> None:
    """What label-model, predict and report do with it."""
    x = rows_for(model.scaling, model.width)
    model.predict_proba(x), model.predict(x)
    samples = model.sample(2, label=model.classes[-1], steps=2)
    if model.image_shape:
        tile(as_images(samples, model.image_shape, model.scaling), 2)
    repr(model)


def network_file(task: str, *, normalize: bool = False) -> Format:
    made: dict[str, Any] = {"classify": {"classes": ["a", "b"]}, "multilabel": {"task": task, "targets": ["a", "b"]},
            "regress": {"task": task, "targets": ["a", "b"], "target_shift": [0.0, 1.0], "target_spread": [1.0, 2.0]},
            "autoencode": {"task": task, "targets": [f"x{n}" for n in range(WIDTH)]}}  # fmt: skip
    scaling = Scaling(255.0, stored="bytes") if normalize else STANDARD
    sizes = [WIDTH, 3, WIDTH if task == "autoencode" else 2]
    about = {"sizes": sizes, "activation": "tanh", "normalise": normalize, **made[task], **scaling.description()}
    return Format(filled(mlp(sizes, "tanh", normalize=normalize)).state_dict(), about, read_classifier, use_network)


def use_network(read: Any) -> None:
    """What predict does with it, and the library."""
    model = Classifier(*read).eval()
    x = rows_for(model.scaling, model.width)
    logits = model.predict_logits(x)
    model.predict(x), model.task.written(logits, "probabilities"), model(x), repr(model)
    assert model.task.outputs == logits.shape[1]


FILES = {
    **{f"stack, {name}": stack_file(*parts) for name, parts in STACKS.items()},
    "label model": label_file(below=False),
    "label model of features": label_file(below=True),
    **{f"network, {task}": network_file(task, normalize=task == "multilabel") for task in TASKS},
}


def some(made: Iterable[tuple[str, Any]], most: int) -> list[tuple[str, Any]]:
    """At most so many of the cases, the same ones every time."""
    found = list(made)
    return found if len(found) <= most else random.Random(0).sample(found, most)


def cases(form: Format) -> Iterator[tuple[str, Callable[[], bytes]]]:
    description = json.loads(json.dumps(form.description))
    for name, changed in wrong_data(description):
        yield name, partial(tensor_file, form.tensors, changed)
    for name, tensors in wrong_tensors(form.tensors):
        yield name, partial(tensor_file, tensors, description)


@pytest.mark.parametrize("most", [50, pytest.param(10**6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_model_of_the_wrong_kind_is_refused_or_can_be_used(name: str, most: int, tmp_path: Path) -> None:
    form, path = FILES[name], tmp_path / "a.safetensors"
    path.write_bytes(tensor_bytes(form.tensors, form.description))
    form.use(form.read(path))
    refused = used = 0
    failures = []
    for case, content in some(cases(form), most):
        path.write_bytes(content())
        try:
            read = form.read(path)
        except InputError as error:
            refused += 1
            if "\n" in str(error) or str(path) not in str(error) or len(str(error)) > 400:
                failures.append(f"{case}: {str(error)[:300]}")
            continue
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error} in reading")
            continue
        try:
            with contextlib.suppress(InputError):
                form.use(read)
            used += 1
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error} in use")
    assert not failures, "\n".join(failures)
    assert refused > 5 * used
