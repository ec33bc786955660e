"""Class probabilities for new examples, from the classifier that did best on validation data."""

import csv
import io

from dbn.cli.command_line import run_script
from dbn.config.inference import PredictConfig


def main(config: PredictConfig) -> None:
    """Read the examples, write a row of probabilities for each."""
    from dbn.data.readers import read_table
    from dbn.runs.classifier import best_classifier, load_classifier
    from dbn.runs.folder import RunFolder
    from dbn.storage.files import atomic_write, check_writable
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    arm, file = best_classifier(RunFolder.open(config.run))
    classifier = load_classifier(file).to(device)
    x = read_table(config.data, config.label_column).train.x
    check_writable(config.output)
    probabilities = classifier.predict_proba(x, str(config.data))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(classifier.classes)
    writer.writerows([f"{p:.6f}" for p in row] for row in probabilities.tolist())
    atomic_write(config.output, text.getvalue().encode())
    print(f"{len(x)} examples classified by the arm {arm}: {config.output}")


if __name__ == "__main__":
    run_script(main, PredictConfig, __doc__)
