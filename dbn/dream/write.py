"""Write the page of a run: a model that one can draw for, ask and sample in a browser."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch

from dbn.config.dream import DreamConfig
from dbn.dream.model_data import columns_data, ends, model_data, network_data, scaling_data
from dbn.errors import InputError, naming_arguments
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel
from dbn.models.shapes import shape_of
from dbn.runs.classifier import Classifier, load_classifier
from dbn.runs.folder import RunFolder
from dbn.runs.label_model import load_label_model
from dbn.runs.training_data import splits_of
from dbn.runs.weights import LABEL_MODEL, load
from dbn.storage.files import as_path, atomic_write
from dbn.templates import page_template

PAGE = "dream.html"
SCRIPTS = "model.js", "chains.js", "screens.js", "page.js"
WEIGHTS = {"float32": torch.float32, "float16": torch.float16}

Shape = tuple[int, int, int]
Model = DBN | LabelModel | Classifier


def write_dream(
    run: Path | str,
    output: Path | str | None = None,
    *,
    classifier: Path | str | None = None,
    init: str | None = None,
    image_shape: str | None = None,
    weights: Literal["float32", "float16"] = "float32",
) -> Path:
    """Write one HTML file that computes with the model of a run, by default dream.html in its folder.

    Of pretrain and label-model it is the stack or label model, of finetune the best network, or that of the arm `init`.
    classifier: a run of finetune whose network judges what the stack is given and what it samples. image_shape: of
    rows that are images, "28x28" or "3x32x32". weights: "float16" for a file of half the size. The same run gives the
    same bytes. Returns the path of the file.

    InputError for a run without a model, a classifier of other data, and what a page cannot show.

    >>> import dbn, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = dbn.pretrain(torch.eye(20), hidden=[8], epochs=2, run=folder + "/run")
    ...     text = write_dream(folder + "/run").read_text(encoding="utf-8")
    >>> "default-src 'none'" in text, "https:" in text
    (True, False)
    """
    with naming_arguments():
        return write_page(
            DreamConfig(
                run=as_path(run, "run"),
                output=None if output is None else as_path(output, "output"),
                classifier=None if classifier is None else as_path(classifier, "classifier"),
                init=init,
                image_shape=image_shape,
                weights=weights,
            )
        )


def write_page(config: DreamConfig) -> Path:
    """`write_dream`, where errors speak of options."""
    folder = RunFolder.open(config.run)
    model, judge = _models(folder, config.classifier, config.init)
    title = Path(folder.read_config().get("dataset") or folder.path.resolve()).name
    data = page_data(title, model, judge, _shape(folder, model, config.image_shape), config.weights)
    path = config.output or folder.path / PAGE
    atomic_write(path, _render(data).encode())
    return path


def _models(folder: RunFolder, classifier: Path | None, init: str | None) -> tuple[Model, Classifier | None]:
    """The model of a run, and the network of `classifier`; InputError where there is none, or they do not fit."""
    options, run = folder.read_config(), folder.path
    if "depths" in options:
        raise InputError(f"{run} is a run of study, which keeps no weights: name one of pretrain or finetune")
    if "init" in options:
        if classifier is not None:
            raise InputError(f"{run} is a run of finetune: leave --classifier out, or name a run of pretrain before it")
        return load_classifier(run, init), None
    model = load_label_model(run) if (run / LABEL_MODEL).is_file() else load(run)
    if classifier is None:
        if init is not None:
            raise InputError(f"{run} has no arms: leave --init out, or name a run of finetune")
        return model, None
    judge = load_classifier(classifier, init)
    if judge.width != model.width or not judge.scaling.standardizes_as(model.scaling):
        raise InputError(
            f"--classifier {classifier} was trained on data of another width or scale than {run}: name one of the same "
            "data"
        )
    return model, judge


def page_data(title: str, model: Model, judge: Classifier | None, shape: Shape | None, weights: str) -> dict[str, Any]:
    """All that the page is told."""
    network = model if isinstance(model, Classifier) else judge
    stack = None if isinstance(model, Classifier) else model
    scaling, dtype = model.scaling, WEIGHTS[weights]
    visible = None if stack is None else stack.layers[0].visible
    codes = scaling.codes if isinstance(scaling.codes, int) else 0
    least, greatest = (0.0, codes - 1.0) if codes else ends(scaling, visible)
    is_whole = bool(codes) or (visible is not None and visible.counts)
    image = {"shape": shape, "least": least, "greatest": greatest, "codes": codes, "whole": is_whole}
    return {
        "title": title,
        "weights": weights,
        "missing": scaling.missing,
        "scaling": scaling_data(scaling, model.width),
        "image": image if shape else None,
        "columns": [] if shape else columns_data(scaling, visible, model.width),
        **(model_data(stack, dtype) if stack else {"rbms": [], "down": None, "classes": []}),
        "network": None if network is None else network_data(network, dtype),
    }


def _shape(folder: RunFolder, model: Model, given: str | None) -> Shape | None:
    """(channels, height, width) of rows that are images; InputError for a shape of other rows."""
    if given is not None:
        return shape_of(given, model.width, folder.path)
    if not isinstance(model, Classifier):
        return model.image_shape
    if model.scaling.table:
        return None
    for stack in _stacks(folder):
        if stack.width == model.width:
            return stack.image_shape
    try:
        shape = splits_of(folder.path).image_shape
    except InputError:  # the data are not at hand
        return None
    return shape if shape and prod(shape) == model.width else None


def _stacks(folder: RunFolder) -> Iterator[DBN]:
    """Those that a run of finetune began with, where they are at hand."""
    for path in folder.read_config().get("pretrained") or ():
        with suppress(InputError):
            yield load(Path(path))


def _render(data: dict[str, Any]) -> str:
    """The page, with the hashes of its script and style in its content policy."""
    texts = {"script": "\n".join(map(_file, SCRIPTS)), "style": _file("page.css")}
    hashes = {name: "sha256-" + b64encode(sha256(text.encode()).digest()).decode() for name, text in texts.items()}
    model = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    said = _said(data, in_words(len(model) + sum(map(len, texts.values()))))
    return page_template("dbn.dream").render(data=data, hashes=hashes, **texts, model=model, **said)


def in_words(size: int) -> str:
    """A number of bytes: "1.2 MB"."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _said(data: Mapping[str, Any], size: str) -> dict[str, Any]:
    """The words of the page, and which of its parts there are."""
    network, has_stack = data["network"], bool(data["rbms"])
    reconstructs = (has_stack and data["generative"]) or bool(network and network["answers"] == "data")
    dreams, notes = has_stack and data["generative"] and data["finite"], []
    if has_stack and not data["generative"]:
        notes.append(
            "The model has learned classes alone, not what rows look like: it has no reconstructions or samples."
        )
    elif has_stack and not data["finite"]:
        notes.append("The top RBM has no finite Z, so that its chains diverge: there are no Gibbs steps.")
    sizes = " – ".join(map(str, _sizes(data)))
    kind = ("label model" if data["classes"] else "stack") if has_stack else "network"
    what = f"A {kind} of {sizes} units" + (f" and {len(data['classes'])} classes" if data["classes"] else "")
    what += ", beside a network that judges what it is given and what it dreams" if has_stack and network else ""
    answers = "Classes" if data["classes"] else ""
    if network:
        answers = {"classes": "Classes", "labels": "Labels", "numbers": "Predictions"}.get(network["answers"], "")
    numbers = f"Its weights are in this file as {data['weights']}" + (
        ", rounded from float32" if data["weights"] == "float16" else ""
    )
    return {
        "about": f"{kind} of {sizes}",
        "lead": f"{what}. All is computed in this page, and nothing is sent.",
        "notes": notes,
        "reconstructs": reconstructs,
        "dreams": dreams,
        "answers": answers,
        "footer": [
            f"{numbers}: {size} in all. Names and scales of columns and classes are in it, rows of data are not."
        ],
    }


def _sizes(data: Mapping[str, Any]) -> list[int]:
    """Of the layers, the data's first."""
    if not data["rbms"]:
        layers = data["network"]["layers"]
        return [data["network"]["inputs"], *(len(b64decode(layer["bias"])) // 4 for layer in layers)]
    units = [data["rbms"][0]["visible"], *(rbm["hidden"] for rbm in data["rbms"])]
    sizes = [sum(part["size"] for part in parts) for parts in units]
    return [sizes[0] - len(data["classes"]), *sizes[1:]] if len(sizes) == 2 else sizes


def _file(name: str) -> str:
    return files("dbn.dream").joinpath(name).read_text(encoding="utf-8")
