"""Predict classes and their probabilities, or numbers, for new examples, and score them where they have labels."""

from dbn.cli.commands import Command
from dbn.config.inference import PredictConfig


def main(config: PredictConfig) -> None:
    """Read the examples, write one row for each, print the scores."""
    from dbn.data.readers import read_table
    from dbn.runs.classifier import best_classifier, load_classifier
    from dbn.runs.folder import RunFolder
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    arm, file = best_classifier(RunFolder.open(config.run), config.init)
    classifier = load_classifier(file).to(device)
    task = classifier.task
    table = read_table(config.data, read_labels=task.read, needs_mark=False, **config.reading())
    x, divisor = table.train.x, table.divisor if table.divisor_given else None
    match = classifier.match(x, str(config.data), divisor=divisor, columns=table.columns)
    for note in match.notes:
        print(f"{note}.")
    if others := [
        f"{len(part):,} {name}" for name, part in (("validation", table.valid), ("test", table.test)) if part
    ]:
        print(f"{config.data}: the rows of x are classified; its {' and '.join(others)} rows are left out.")
    check_writable(config.output)
    outputs = classifier.logits(x, match)
    columns, said = task.written(outputs, config.columns), task.scored(outputs, table)
    write_csv(config.output, list(columns), zip(*columns.values(), strict=True), task.digits)
    print(f"{len(outputs)} examples {task.done} by the arm {arm}: {config.output}")
    if said := said or (f"No scores: {table.label_error}." if table.label_error else ""):
        print(said)


COMMAND = Command(main, PredictConfig, __doc__)
