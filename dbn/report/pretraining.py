"""The report of pre-training: a stack, or a label model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.idle import idle_layers, idle_sentence
from dbn.models.label_model import LabelModel
from dbn.plotting.images import as_images, filters, originals_and_reconstructions, tile
from dbn.report.drawings import curves, png, png_file
from dbn.report.evaluation import evaluation_section
from dbn.report.page import Block, Gallery, Page, Picture, Section, Table, Text, Warned
from dbn.report.source import Source
from dbn.rng import stream
from dbn.runs.label_model import load_label_model
from dbn.runs.weights import load
from dbn.sampling import sample

PANELS: dict[str, tuple[str, dict[str, str]]] = {
    "Reconstruction error": (
        "squared error",
        {"reconstruction_error": "training", "valid_reconstruction_error": "validation"},
    ),
    "KL of the data from their reconstruction": ("KL (nats)", {"kl": "training", "valid_kl": "validation"}),
    "Free-energy gap, which grows when the RBM overfits": (
        "gap (nats)",
        {"free_energy_gap": "validation − training"},
    ),
    "Hidden units": (
        "share",
        {"hidden_activity": "mean activity", "hidden_off": "always off", "hidden_on": "always on"},
    ),
    "Size of an update over that of the weights, 0.001 as a rule": ("ratio", {"update_ratio": "last update"}),
    "Log-likelihood, by quick AIS": (
        "nats",
        {
            "log_likelihood": "training",
            "valid_log_likelihood": "validation",
            "pseudo_likelihood": "pseudo, training",
            "valid_pseudo_likelihood": "pseudo, validation",
        },
    ),
    "Chains": ("share", {"chain_autocorrelation": "autocorrelation", "swap_rate_lowest": "least swap rate"}),
    "Errors of classes": ("error (%)", {"error": "training", "valid_error": "validation"}),
    "Log-loss of classes": ("log-loss (nats)", {"log_loss": "training", "valid_log_loss": "validation"}),
}
"""By caption: the label of the axis, and the names of the curves by key of metrics.jsonl."""
CHANGED = "valid_kl", "kl", "valid_log_loss"
"""What tells whether a layer has learned, the first that there is."""
SAMPLED, SAMPLE_STEPS, NOISE_STEPS, ACTIVE = 40, 100, 200, 400
"""Samples, Gibbs steps from data and from noise, hidden units whose activity is drawn."""
TABLE_ROWS = 10


def stack_page(source: Source) -> Page:
    """InputError where the stack is not whole."""
    stack = load(source.run.path)
    rows, missing = source.rows(stack)
    sizes = " – ".join(f"{units}" for units in stack.sizes)
    lead = [f"A stack of {sizes} units, trained layer by layer.", *_learned(source.metrics)]
    warnings = [*_said(source)]
    if rows is not None and (idle := idle_sentence(idle_layers(stack, rows))):
        warnings.append(idle)
    sections = [
        Section("Warnings", _warnings(warnings)),
        *_curves(source.metrics),
        *evaluation_section(source.result),
        Section("Reconstructions", _reconstructions(source, stack, rows, missing)),
        Section("Filters", [Gallery(list(_filters(source, stack)))] if stack.image_shape else []),
        Section("Samples", _samples(stack, rows)),
        Section("Hidden activity", _activity(stack, rows)),
    ]
    return Page(f"Pre-training: {source.name}", lead, sections)


def label_model_page(source: Source) -> Page:
    """InputError where the model is not whole."""
    model = load_label_model(source.run.path)
    sizes = f"{model.width} values and {len(model.classes)} classes"
    last: Mapping[str, Any] = next(
        (each for each in reversed(source.metrics) if each.get("valid_error") is not None), {}
    )
    lead = [f"A label model of {sizes}.", *_learned(source.metrics)]
    if last:
        loss = last["valid_log_loss"]
        lead.insert(1, f"Validation error {last['valid_error']:.2f} %, log-loss {loss:.4f} nats.")
    sections = [
        Section("Warnings", _warnings(_said(source))),
        *_curves(source.metrics),
        Section("Samples by class", _class_samples(model)),
        Section("Classes", [Table(("class",), [(name,) for name in model.classes])]),
    ]
    return Page(f"Label model: {source.name}", lead, sections)


def _learned(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each layer came to, a sentence each."""
    for layer, of_layer in _by_layer(records).items():
        name = next((each for each in CHANGED if any(record.get(each) is not None for record in of_layer)), None)
        if name is None:
            continue
        values = [record[name] for record in of_layer if record.get(name) is not None]
        what = {"valid_kl": "the validation KL", "kl": "the training KL"}.get(name, "the validation log-loss")
        epochs = f"{of_layer[-1]['epoch']} epoch{'s' * (of_layer[-1]['epoch'] > 1)}"
        if len(values) == 1:
            yield f"Layer {layer}: {what} is {values[0]:.4g} nats after {epochs}."
            continue
        way = "falls" if values[-1] < values[0] else "does not fall"
        yield (
            f"Layer {layer}: {what} {way}: {values[0]:.4g} nats when first measured, {values[-1]:.4g} after {epochs}."
        )


def _said(source: Source) -> list[str]:
    """The warnings of training, as they were given."""
    return [
        f"{tag.partition('/')[0].replace('layer', 'Layer ')}, epoch {epoch}: {text}."
        for tag, epoch, text in source.events.texts
        if tag.endswith("/warnings")
    ]


def _warnings(sentences: Sequence[str]) -> list[Block]:
    return [*map(Warned, sentences)] if sentences else [Text("There were none.")]


def _by_layer(records: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(record["layer"], []).append(record)
    return found


def _curves(records: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """The last numbers of all layers, and a section for the curves of each."""
    layers, columns = _by_layer(records), {}
    for layer, of_layer in layers.items():
        last: dict[str, Any] = {}
        for record in of_layer:
            last |= {name: value for name, value in record.items() if value is not None}
        columns[layer] = last | {"seconds": math.fsum(record.get("seconds") or 0.0 for record in of_layer)}
    names = [name for name in dict.fromkeys(name for last in columns.values() for name in last) if name != "layer"]
    rows = [
        (_in_words(name), *(f"{last[name]:.5g}" if name in last else "–" for last in columns.values()))
        for name in names
    ]
    headers = ("last measured", *(f"layer {layer}" for layer in columns))
    yield Section("Layers" if len(layers) > 1 else "Training", [Table(headers, rows)])
    for layer, of_layer in layers.items():
        drawn = []
        for caption, (label, shown) in PANELS.items():
            arms = {
                words: {record["epoch"]: [record[name]] for record in of_layer if record.get(name) is not None}
                for name, words in shown.items()
            }
            if picture := curves(arms, f"{caption}.", ylabel=label):
                drawn.append(picture)
        yield Section(f"Curves of layer {layer}", [Gallery(drawn)] if drawn else [])


def _in_words(name: str) -> str:
    """A key of metrics.jsonl: "validation KL"."""
    return " ".join({"valid": "validation", "kl": "KL", "z": "Z"}.get(word, word) for word in name.split("_"))


def _reconstructions(source: Source, stack: DBN, rows: Tensor | None, missing: str) -> list[Block]:
    """As they were drawn in training, or drawn again."""
    if stack.image_shape is None:
        return [] if rows is None or not stack.scaling.table else [_recreated(stack, rows)]
    logged = source.events.images
    drawn = [
        png_file(logged[tag][1], f"Through {number} of {len(stack.layers)} layers: data above, reconstructions below.")
        for number in range(1, len(stack.layers) + 1)
        if (tag := f"layer{number}/reconstructions") in logged
    ]
    if not drawn and rows is not None:
        generator = stream(0, "report", "reconstructions")
        image = originals_and_reconstructions(stack.layers, rows[:10], stack.image_shape, stack.scaling, generator)
        drawn = [png(image, "Data above, reconstructions below.")]
    return [Gallery(drawn)] if drawn else [Text(missing)]


def _recreated(stack: DBN, rows: Tensor) -> Block:
    """Rows of a table, each above its reconstruction."""
    h = rows[:TABLE_ROWS]
    for rbm in stack.layers:
        h = rbm.up(h)
    for rbm in reversed(stack.layers):
        h = rbm.down(h)
    both = [_cells(stack, stack.scaling.inverse(x)) for x in (rows[:TABLE_ROWS], h)]
    pairs = [(name, *row) for two in zip(*(each.rows for each in both), strict=True)
             for name, row in zip(("data", "reconstruction"), two, strict=True)]  # fmt: skip
    return Table(("", *both[0].headers), pairs)


def _cells(stack: DBN | LabelModel, rows: Tensor) -> Table:
    cells = stack.scaling.cells(rows)
    text = {
        name: [f"{each:.4g}" if isinstance(each, float) else str(each) for each in values]
        for name, values in cells.items()
    }
    return Table([*map(str, text)], list(zip(*text.values(), strict=True)))


def _filters(source: Source, stack: DBN) -> Iterator[Picture]:
    """Of each layer, as a linear view through the layers below."""
    assert stack.image_shape is not None
    for number in range(1, len(stack.layers) + 1):
        caption = f"Layer {number}: what its first units prefer; gray is zero."
        logged = source.events.images.get(f"layer{number}/filters")
        yield (
            png_file(logged[1], caption) if logged else png(filters(stack.layers[:number], stack.image_shape), caption)
        )


@torch.no_grad()
def _samples(stack: DBN, rows: Tensor | None) -> list[Block]:
    """A few, from validation rows where these are at hand."""
    try:
        if rows is not None:
            start, found = (
                f"{SAMPLE_STEPS} Gibbs steps from validation rows",
                sample(stack, len(rows), start=rows, steps=SAMPLE_STEPS).rows,
            )
        else:
            start, found = f"{NOISE_STEPS} Gibbs steps from noise", stack.sample(SAMPLED, steps=NOISE_STEPS)
    except InputError as error:
        return [Text(f"No samples: {error}.")]
    if stack.scaling.table:
        return [Text(f"{start}."), _cells(stack, found[:TABLE_ROWS])]
    if stack.image_shape is None:
        return []
    return [png(tile(as_images(found, stack.image_shape, stack.scaling), 10), f"After {start}.")]


def _class_samples(model: LabelModel) -> list[Block]:
    """Ten images of each of the first classes, or a few rows."""
    if not model.generative or not (model.image_shape or model.scaling.table):
        return []
    found = [
        model.sample(
            10 if model.image_shape else 2, label=name, steps=NOISE_STEPS, generator=stream(0, "report", number)
        )
        for number, name in enumerate(model.classes[:10])
    ]
    text = f"After {NOISE_STEPS} Gibbs steps from noise, a row each for {', '.join(model.classes[:10])}."
    if model.image_shape is None:
        return [Text(text), _cells(model, torch.cat(found))]
    return [png(tile(as_images(torch.cat(found), model.image_shape, model.scaling), 10), text)]


@torch.no_grad()
def _activity(stack: DBN, rows: Tensor | None) -> list[Block]:
    """Mean activities of hidden units, an example a line and a unit a column."""
    if rows is None:
        return []
    drawn, h = [], rows
    for number, rbm in enumerate(stack.layers, start=1):
        h = rbm.up(h)
        shown, low = h[:, :ACTIVE], h.min()
        image = (shown - low) / (h.max() - low).clamp_min(1e-12)
        caption = f"Layer {number}: {len(h)} validation rows, a line each, by {shown.shape[1]} units; bright is on."
        drawn.append(png(image[None], caption))
    return [Gallery(drawn), Text("A column that is dark or bright throughout is a unit that tells nothing apart.")]
