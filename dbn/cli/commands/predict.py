"""Predict classes and their probabilities, or numbers, for new examples, and score them where they have labels."""

from dbn.cli.commands import Command
from dbn.config.inference import PredictConfig


def main(config: PredictConfig) -> None:
    """Read the examples, write one row for each, print the scores."""
    from functools import partial

    from dbn.data.readers import read_table
    from dbn.errors import InputError
    from dbn.models.label_model import LabelModel
    from dbn.runs.classifier import Classifier, best_classifier, load_classifier
    from dbn.runs.folder import RunFolder
    from dbn.runs.label_model import load_label_model
    from dbn.runs.weights import LABEL_MODEL
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.tasks.base import Task
    from dbn.tasks.classify import Classify
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    classifier: Classifier | LabelModel
    if (config.run / LABEL_MODEL).is_file():
        if config.init is not None:
            raise InputError(f"--init names an arm, and {config.run} holds a label model: leave it out")
        by, classifier = "label model", load_label_model(config.run).to(device)
        task: Task = Classify(classifier.classes)
    else:
        arm, file = best_classifier(RunFolder.open(config.run), config.init)
        by, classifier = f"arm {arm}", load_classifier(file).to(device)
        task = classifier.task
    reading = {"read_labels": task.read, "kinds": classifier.scaling.kinds} | config.reading()
    table = read_table(config.data, needs_mark=False, **reading)
    x, divisor = table.train.x, table.divisor if table.divisor_given else None
    where = partial(table.train.where, name=str(config.data))
    match = classifier.match(
        x, str(config.data), divisor=divisor, columns=table.columns, table=table.table, where=where
    )
    check_writable(config.output)
    outputs = classifier.logits(x, match)
    columns, said = task.written(outputs, config.columns), task.scored(outputs, table)
    write_csv(config.output, list(columns), zip(*columns.values(), strict=True), task.digits)
    for note in match.notes:
        print(f"{note}.")
    if others := [
        f"{len(part):,} {name}" for name, part in (("validation", table.valid), ("test", table.test)) if part
    ]:
        print(f"{config.data}: the rows of x are classified; its {' and '.join(others)} rows are left out.")
    print(f"{len(outputs)} examples {task.done} by the {by}: {config.output}")
    if said := said or (f"No scores: {table.label_error}." if table.label_error else ""):
        print(said)


COMMAND = Command(main, PredictConfig, __doc__)
