"""Class probabilities for new examples, from the classifier that did best on validation data."""

import csv
import io

from dbn.cli.command_line import run_script
from dbn.config.inference import PredictConfig


def main(config: PredictConfig) -> None:
    """Read the examples, write a row of probabilities for each."""

    from dbn.data.readers import read_table
    from dbn.errors import InputError
    from dbn.finetuning.comparison import best_classifier
    from dbn.finetuning.metrics import predict
    from dbn.models.scaling import Scaling
    from dbn.runs.folder import RunFolder
    from dbn.runs.weights import load_classifier
    from dbn.storage.files import atomic_write, check_writable
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    arm, file = best_classifier(RunFolder.open(config.run))
    network, description = load_classifier(file)
    x = read_table(config.data, config.label_column).train.x
    if x.shape[1] != description["sizes"][0]:
        raise InputError(
            f"{config.data} has {x.shape[1]} values an example, but the classifier takes {description['sizes'][0]}"
        )
    if description["shift"] is None and x.is_floating_point() and not 0 <= x.min() <= x.max() <= 1:
        raise InputError(
            f"{config.data} has values from {x.min():g} to {x.max():g}, but the classifier was trained on values in "
            "[0, 1]: bring them there, or save bytes as uint8 in .npz or .npy"
        )
    check_writable(config.output)
    scaling = Scaling.from_description(description).to(device)
    probabilities = predict(network.to(device), scaling, x.to(device)).softmax(1).cpu()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(description["classes"])
    writer.writerows([f"{p:.6f}" for p in row] for row in probabilities.tolist())
    atomic_write(config.output, text.getvalue().encode())
    print(f"{len(x)} examples classified by the arm {arm}: {config.output}")


if __name__ == "__main__":
    run_script(main, PredictConfig, __doc__)
