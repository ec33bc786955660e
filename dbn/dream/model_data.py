"""A model as the data of a page: its weights as text, its units, and what the columns of its rows are."""

import base64
import math
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from dbn.errors import InputError, listed
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.base import Units
from dbn.models.units.mixed import Mixed
from dbn.runs.classifier import Classifier
from dbn.tasks.autoencode import Autoencode

KINDS = "bernoulli", "binomial", "gaussian", "relu", "spin", "categorical"
"""Types of units that the page's JavaScript knows."""
ANSWERS = {"classify": "classes", "multilabel": "labels", "regress": "numbers", "autoencode": "data"}
"""By task, what the outputs of a network are to the page."""
MOST_COLUMNS = 300
"""Of rows that are no images: a slider each."""
SPREADS = 3
"""Standard deviations that a slider reaches to either side of the mean."""


def model_data(model: DBN | LabelModel, dtype: torch.dtype) -> dict[str, Any]:
    """The RBMs of a stack or label model as JSON data, weights in `dtype`.

    InputError for a type of unit that the page does not know.
    """
    with_labels = isinstance(model, LabelModel)
    untied = model.downwards if isinstance(model, LabelModel) and len(model.generative_rbms) else None
    return {
        "rbms": [_rbm(rbm, dtype) for rbm in model.layers],
        "down": untied and [_rbm(rbm, dtype) for rbm in untied],
        "classes": list(model.classes) if isinstance(model, LabelModel) else [],
        "generative": not with_labels or model.generative,
        "finite": model.layers[-1].has_partition(),
    }


def network_data(classifier: Classifier, dtype: torch.dtype) -> dict[str, Any]:
    """A network as JSON data; a batch normalization becomes a part of the layer before it."""
    task, layers = classifier.task, list[dict[str, Any]]()
    if task.name not in ANSWERS:
        raise InputError(f"a page cannot show networks of the task {task.name}, only of {listed(ANSWERS)}")
    modules = list(classifier.network)
    for place, module in enumerate(modules):
        if not isinstance(module, nn.Linear):
            continue
        weight, bias = module.weight.double(), module.bias.double()
        rest = modules[place + 1 :]
        if rest and isinstance(rest[0], nn.BatchNorm1d):
            norm: Any = rest.pop(0)
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = weight * scale[:, None]
            bias = (bias - norm.running_mean) * scale + norm.bias
        layers.append({"weight": _text(weight, dtype), "bias": _text(bias), **_activation(rest[:1])})
    inputs = modules[0].in_features
    found = {"inputs": inputs, "layers": layers, "answers": ANSWERS[task.name], "names": list(task.names)}
    if isinstance(task, Autoencode):
        layers[-1]["activation"] = task.output
        return found | {"shift": None, "spread": None}
    shift, spread = getattr(task, "shift", None), getattr(task, "spread", None)
    return found | {
        name: None if each is None else each.tolist() for name, each in (("shift", shift), ("spread", spread))
    }


def _activation(following: Sequence[nn.Module]) -> dict[str, Any]:
    if not following or isinstance(following[0], nn.Linear):
        return {"activation": "identity"}
    if isinstance(following[0], nn.Sequential):  # softmax(states=q)
        groups: Any = following[0][0]
        return {"activation": "softmax", "states": groups.unflattened_size[1]}
    return {"activation": type(following[0]).__name__.lower()}


def scaling_data(scaling: Scaling, width: int) -> dict[str, Any]:
    """How rows of `width` columns, after dividing, become values of the visible units."""
    shift, spread = (None if each is None else each.tolist() for each in (scaling.shift, scaling.spread))
    return {"codes": _codes(scaling, width), "shift": shift, "spread": spread}


def columns_data(scaling: Scaling, visible: Units | None, width: int) -> list[dict[str, Any]]:
    """What each column of a row is: a choice of named values, or a number between two ends.

    visible: the units that take it; None for a network. A number is shown times `factor`. InputError for too many
    columns.
    """
    if width > MOST_COLUMNS:
        raise InputError(
            f"rows of {width} values without an image shape are too many for sliders, of which a page has up to "
            f"{MOST_COLUMNS}: if they are images, name their shape with --image-shape, such as 28x28"
        )
    names = scaling.columns or tuple(f"column {place + 1}" for place in range(width))
    kinds, codes, units = _kinds(visible, width), _codes(scaling, width) or [0] * width, count()
    found: list[dict[str, Any]] = []
    for column, name in enumerate(names):
        unit = next(units)
        for _ in range(codes[column] - 1):
            next(units)
        categories = scaling.table[column].categories if scaling.table else ()
        if categories or codes[column] or kinds[column] == "spin":
            values = [-1, 1] if kinds[column] == "spin" else [*range(len(categories) or codes[column])]
            found.append({"name": name, "choices": list(categories or map(str, values)), "values": values})
        else:
            least, greatest = ends(scaling, visible, column, unit)
            whole = kinds[column] == "binomial"
            start = (least + greatest) / 2
            factor = scaling.divisor if scaling.stored else 1.0
            numbers = {"least": least, "greatest": greatest, "start": round(start) if whole else start}
            found.append({"name": name, "factor": factor, "whole": whole, **numbers})
    return found


def ends(scaling: Scaling, visible: Units | None, column: int = 0, unit: int = 0) -> tuple[float, float]:
    """The range of a column, after dividing: that of its units, some standard deviations, or that of training."""
    kind = _kinds(visible, column + 1)[column]
    least, greatest = scaling.values or (0.0, 1.0)
    if isinstance(scaling.limits, tuple):
        limits = scaling.limits[column] if isinstance(scaling.limits[0], tuple) else scaling.limits
    else:
        limits = (0.0, 1.0) if kind == "bernoulli" else (-math.inf, math.inf)
    if kind in ("", "gaussian") and scaling.shift is not None and scaling.spread is not None:
        shift, reach = float(scaling.shift[unit]), SPREADS * float(scaling.spread[unit])
        if (shift, reach) != (0.0, float(SPREADS)) or kind:
            least, greatest = shift - reach, shift + reach
    low, high = (float(each) for each in limits)
    return (low if math.isfinite(low) else least), (high if math.isfinite(high) else greatest)


def _codes(scaling: Scaling, width: int) -> list[int] | None:
    return [scaling.codes] * width if isinstance(scaling.codes, int) else list(scaling.codes) if scaling.codes else None


def _kinds(visible: Units | None, width: int) -> list[str]:
    """The unit type that takes each column, "" for a network's inputs."""
    if visible is None:
        return [""] * width
    if not isinstance(visible, Mixed):
        return [visible.kind] * width
    return [part.kind for part, columns in visible.of_data() for _ in range(columns.stop - columns.start)]


def _rbm(rbm: RBM, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "weight": _text(rbm.weight, dtype),
        "visible": [_part(part) for part in _parts(rbm.visible)],
        "hidden": [_part(part) for part in _parts(rbm.hidden)],
    }


def _parts(units: Units) -> list[Units]:
    return [part for part, _ in units.each()] if isinstance(units, Mixed) else [units]


def _part(units: Units) -> dict[str, Any]:
    if units.kind not in KINDS:
        raise InputError(f"a page cannot compute {units.kind} units, only {listed(KINDS)}: use DBN in Python")
    theta = {name: _text(value) for name, value in units.natural().items()}
    return {"kind": units.kind, "size": units.size, **units.settings, **theta}


def _text(values: Tensor, dtype: torch.dtype = torch.float32) -> str:
    """In base64, little-endian, as rows one after the other."""
    array = values.detach().cpu().to(dtype).numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
