"""Predict classes and their probabilities for new examples, and score them where they have labels."""

from typing import TYPE_CHECKING, Any

from dbn.cli.commands import Command
from dbn.config.inference import PredictConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dbn.data.splits import Splits


def main(config: PredictConfig) -> None:
    """Read the examples, write one row for each, print the scores."""
    from dbn.data.readers import read_table
    from dbn.errors import InputError
    from dbn.models.label_model import LabelModel
    from dbn.runs.classifier import Classifier, best_classifier, load_classifier
    from dbn.runs.folder import RunFolder
    from dbn.runs.label_model import LABEL_MODEL, load_label_model
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    classifier: Classifier | LabelModel
    if (config.run / LABEL_MODEL).is_file():
        if config.init is not None:
            raise InputError(f"--init names an arm, and {config.run} holds a label model: leave it out")
        by, classifier = "label model", load_label_model(config.run).to(device)
    else:
        arm, file = best_classifier(RunFolder.open(config.run), config.init)
        by, classifier = f"arm {arm}", load_classifier(file).to(device)
    table = read_table(config.data, kinds=classifier.scaling.kinds, **config.reading())
    x, divisor = table.train.x, table.divisor if table.divisor_given else None
    match = classifier.match(x, str(config.data), divisor=divisor, columns=table.columns, table=table.table)
    for note in match.notes:
        print(f"{note}.")
    if others := [
        f"{len(part):,} {name}" for name, part in (("validation", table.valid), ("test", table.test)) if part
    ]:
        print(f"{config.data}: the rows of x are classified; its {' and '.join(others)} rows are left out.")
    check_writable(config.output)
    logits = classifier.logits(x, match)
    probabilities = logits.softmax(1)
    greatest, places = probabilities.max(1)
    columns: dict[str, list[Any]] = {}
    if config.columns != "class":
        columns |= dict(zip(classifier.classes, probabilities.T.tolist(), strict=True))
    if config.columns != "probabilities":
        columns["predicted_class"] = [classifier.classes[place] for place in places.tolist()]
        columns["predicted_probability"] = greatest.tolist()
    write_csv(config.output, list(columns), zip(*columns.values(), strict=True), ".9g")
    print(f"{len(logits)} examples classified by the {by}: {config.output}")
    if said := _scored(table, logits, classifier.classes):
        print(said)


def _scored(table: "Splits", logits: "Tensor", classes: tuple[str, ...]) -> str:
    """A sentence with the scores on the rows whose label is one of the classes; empty without labels."""
    import torch

    from dbn.errors import listed
    from dbn.finetuning.metrics import scores

    if table.train.y is None:
        return ""
    place = {name: number for number, name in enumerate(classes)}
    codes = torch.tensor([place.get(name, -1) for name in table.classes], device="cpu")
    y = torch.where(table.train.y < 0, -1, codes[table.train.y])
    known = y >= 0
    unknown = [name for name in table.classes if name not in place]
    left_out = f"; rows of {listed(unknown)}, which the classifier does not know, are left out" if unknown else ""
    if not known.any():
        return f"No scores: none of the labels is a class of the classifier, such as {listed(classes, 5)}."
    found = scores(logits[known], y[known])
    return (
        f"Scores on {int(known.sum())} labeled examples: error {found.error:.2f} %, balanced error "
        f"{found.balanced_error:.2f} %, log-loss {found.log_loss:.4g} nats{left_out}."
    )


COMMAND = Command(main, PredictConfig, __doc__)
