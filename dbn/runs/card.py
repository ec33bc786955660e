"""The model card: README.md of a run folder, which hubs show as the page of a model."""

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dbn.errors import listed
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel
from dbn.models.scaling import Scaling
from dbn.runs.asked import command, kind_of
from dbn.runs.folder import VERSIONS, RunFolder
from dbn.storage.files import atomic_write, read_file
from dbn.text_tables import Row, markdown_table

CARD = "README.md"
FRAME = "<!-- figures of torch-dbn evaluate -->", "<!-- end of these figures -->"
"""Around the part that `write_likelihood` replaces."""
NOT_MEASURED = "Not measured since the end of training: `torch-dbn evaluate` writes its figures here."
INSTALLED = "After `pip install torch-dbn`, with FOLDER for the folder of this file:"
MOST_COLUMNS = 50
"""Columns of a table that are described one by one."""
MEASURED = {
    "epoch": "epochs",
    "reconstruction_error": "reconstruction error",
    "valid_reconstruction_error": "validation",
    "kl": "KL (nats)",
    "valid_kl": "validation",
    "free_energy_gap": "free-energy gap (nats)",
    "valid_error": "validation error (%)",
    "valid_log_loss": "validation log-loss (nats)",
}
"""Keys of metrics.jsonl and their headings."""

Sections = Mapping[str, str]
"""Markdown by heading."""


class Kind(NamedTuple):
    """What is alike in the cards of all runs of a command."""

    tags: tuple[str, ...]
    load: str
    """Python that loads the result."""


MODEL_TAGS = ("restricted-boltzmann-machine", "deep-belief-network")
KINDS = {
    "pretrain": Kind(
        (*MODEL_TAGS, "unsupervised-learning"),
        'import dbn\n\nstack = dbn.load("FOLDER")\nfeatures = stack.up(stack.scale(x))  # x: rows as they are stored\n'
        "network = stack.to_mlp(n_classes=10)  # for ten classes; a torch.nn.Sequential to train further",
    ),
    "label-model": Kind(
        (*MODEL_TAGS, "classification"),
        'import dbn\n\nmodel = dbn.load_label_model("FOLDER")\n'
        "probabilities = model.predict_proba(x)  # x: rows as they are stored",
    ),
    "finetune": Kind(
        (*MODEL_TAGS, "multilayer-perceptron"),
        'import dbn\n\nnetwork = dbn.load_classifier("FOLDER")  # of the arm with the least validation error\n'
        "predicted = network.predict(x)  # x: rows as they are stored",
    ),
    "study": Kind(
        (*MODEL_TAGS, "benchmark"),
        'import json\n\nwith open("FOLDER/results.jsonl", encoding="utf-8") as file:\n'
        "    records = [json.loads(line) for line in file]  # every number",
    ),
}
"""By the command that made the run."""


def write_card(run: RunFolder, title: str, sections: Sections) -> None:
    """Write README.md: front matter, `sections`, how to load the result, the command, versions, and room for a license.

    The same run gives the same bytes. `title` is plain text, the sections are Markdown, see `escaped`.
    """
    options = run.read_config()
    verb = kind_of(run, options)
    kind, again = KINDS[verb], command(verb, options)
    made = run.read_json(VERSIONS)
    versions = [(name, str(made[name])) for name in made if name not in ("format", "data") and made[name] is not None]
    ends = {
        "How to load it": f"{INSTALLED}\n\n{fenced(kind.load, 'python')}",
        "How it was made": fenced(again, "python" if again.startswith("dbn.") else "sh")
        + f"\n\n{table(('package', 'version'), versions)}",
        "License": "Not stated: fill it in here and as `license` above, with regard to the license of the data.",
    }
    front = yaml.safe_dump({"library_name": "torch-dbn", "tags": list(kind.tags)}, sort_keys=False)
    body = [f"# {escaped(title)}", *(f"## {name}\n\n{text}" for name, text in {**sections, **ends}.items())]
    text = f"---\n{front}# license: unknown\n---\n\n" + "\n\n".join(body) + "\n"
    atomic_write(run.path / CARD, text.encode(errors="replace"))  # a name of a file may be no text


def write_likelihood(folder: Path, text: str) -> None:
    """Replace the likelihoods in the card of a folder by `text`; nothing where there is no card, or it has no place."""
    if not (folder / CARD).is_file():
        return
    before, start, rest = read_file(folder / CARD).decode(errors="replace").partition(FRAME[0])
    _, end, after = rest.partition(FRAME[1])
    if end:
        atomic_write(folder / CARD, f"{before}{start}\n\n{text}\n\n{end}{after}".encode(errors="replace"))


def write_model_card(run: RunFolder, model: DBN | LabelModel, train: Sized, valid: Sized | None) -> None:
    """The card of a run of pretrain or label-model, which was trained on these rows."""
    sizes = " – ".join(f"{size:,}" for size in (model.width, *(rbm.hidden.size for rbm in model.layers)))
    what = "Label model" if isinstance(model, LabelModel) else "Deep belief network"
    sections = {
        "Model": _model(model),
        "Data": _data(run, model, len(train), 0 if valid is None else len(valid)),
        "Figures of training": _measured(run.metrics()),
    }
    if isinstance(model, DBN):
        sections["Likelihood"] = "\n\n".join((FRAME[0], NOT_MEASURED, FRAME[1]))
    write_card(run, f"{what} {sizes}", sections)


def _model(model: DBN | LabelModel) -> str:
    visible = model.layers[0].visible
    layers = [("visible", visible.kind, f"{visible.size:,}")]
    layers += [(f"hidden {n}", rbm.hidden.spec, f"{rbm.hidden.size:,}") for n, rbm in enumerate(model.layers, start=1)]
    count = sum(each.numel() for each in model.parameters())
    said = f"A stack of {len(model.layers)} restricted Boltzmann machine{'s' * (len(model.layers) > 1)}"
    if isinstance(model, LabelModel):
        said += f", of rows and labels together; {len(model.classes)} classes: {escaped(listed(model.classes))}"
    return f"{said}; {count:,} parameters.\n\n{table(('layer', 'type of unit', 'units'), layers)}"


def _data(run: RunFolder, model: DBN | LabelModel, rows: int, valid: int) -> str:
    name = run.read_config().get("dataset")
    called = "Arrays in memory" if name is None else escaped(str(name))
    found = [
        f"{called}: {rows:,} training and {valid:,} validation rows of {model.width:,} values",
        f"images of {' × '.join(map(str, model.image_shape))} (channels, height, width)" if model.image_shape else "",
        _scaled(model.scaling),
        f"fingerprint of values and splits `{run.data}`",
    ]
    return f"{'; '.join(filter(None, found))}.{_columns(model.scaling)}"


def _scaled(scaling: Scaling) -> str:
    done = [f"divided by {scaling.divisor:g}"] * (scaling.divisor != 1)
    done += ["categories one-hot"] * (scaling.codes is not None)
    done += ["numbers standardized to mean 0 and variance 1"] * (scaling.shift is not None)
    return f"values are {' and '.join(done) or 'taken as they are'}"


def _columns(scaling: Scaling) -> str:
    if not scaling.columns or not scaling.table:
        return f" Columns: {escaped(listed(scaling.columns))}." if scaling.columns else ""
    kinds = zip(scaling.names[:MOST_COLUMNS], scaling.table, strict=False)
    rows = [(name, each.kind, listed(each.categories, 6)) for name, each in kinds]
    more = len(scaling.table) - len(rows)
    return f"\n\n{table(('column', 'kind', 'values'), rows)}" + f"\n\nAnd {more:,} more columns." * (more > 0)


def _measured(records: Sequence[Mapping[str, Any]]) -> str:
    """The last epoch of every layer, without what depends on the clock."""
    last = {record["layer"]: record for record in records}
    names = [name for name in MEASURED if any(record.get(name) is not None for record in last.values())]
    if not names:
        return "None was measured."
    rows = [
        (str(layer), *("–" if record.get(name) is None else f"{record[name]:.6g}" for name in names))
        for layer, record in last.items()
    ]
    return f"In the last epoch of every layer.\n\n{table(('layer', *(MEASURED[name] for name in names)), rows)}"


def table(headers: Row, rows: Iterable[Row]) -> str:
    """A table of Markdown whose cells are plain text."""
    return markdown_table([*map(escaped, headers)], ([*map(escaped, row)] for row in rows))


def fenced(text: str, language: str) -> str:
    """A block of code that no line of it can end."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"


def escaped(text: str) -> str:
    r"""Plain text on one line as Markdown shows it: no markup, HTML, link or cell of a table begins in it.

    >>> print(escaped("a|b <img> _c_"))
    a\|b \<img\> \_c\_
    """
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"(?i)[\\`*_\[\]<>|~&#$]|:(?=//)|(?<=www)\.", r"\\\g<0>", line)
