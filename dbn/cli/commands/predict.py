"""Predict class probabilities of new examples with the classifier of the lowest validation error."""

import csv
import io

from dbn.cli.commands import Command
from dbn.config.inference import PredictConfig


def main(config: PredictConfig) -> None:
    """Read the examples, write one row of probabilities for each."""
    from dbn.data.readers import read_table
    from dbn.runs.classifier import best_classifier, load_classifier
    from dbn.runs.folder import RunFolder
    from dbn.storage.files import atomic_write, check_writable
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    arm, file = best_classifier(RunFolder.open(config.run))
    classifier = load_classifier(file).to(device)
    splits = read_table(config.data, config.label_column, config.divisor)
    x, divisor = splits.train.x, splits.divisor if splits.divisor_given else None
    found = classifier.match(x, str(config.data), divisor=divisor, columns=splits.columns)
    for note in found.notes:
        print(f"{note}.")
    check_writable(config.output)
    probabilities = classifier.probabilities(x, found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(classifier.classes)
    writer.writerows([f"{p:.6f}" for p in row] for row in probabilities.tolist())
    atomic_write(config.output, text.getvalue().encode())
    print(f"{len(x)} examples classified by the arm {arm}: {config.output}")


COMMAND = Command(main, PredictConfig, __doc__)
