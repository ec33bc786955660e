"""Evaluate a pre-trained stack or an RBM from elsewhere: log Z, and log-likelihoods or their lower bound."""

from dbn.cli.commands import Command
from dbn.config.evaluation import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    """Load model and data, measure, print the tables and write them as JSON."""
    from dbn.evaluation.evaluate import evaluate_stack
    from dbn.evaluation.external_rbm import read_model
    from dbn.evaluation.report import evaluation_markdown, evaluation_text
    from dbn.evaluation.sources import load_evaluation_data
    from dbn.runs.card import write_likelihood
    from dbn.runs.folder import RunFolder
    from dbn.storage.files import check_writable
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    stack = read_model(config.run)
    data = load_evaluation_data(stack, config)
    file = config.output or (config.run / "result.json" if config.run.is_dir() else None)
    if file is not None:  # before the long work
        check_writable(file)
    found = evaluate_stack(stack.to(device), data.to(device), config, progress=None)
    print(evaluation_text(found))
    if file is not None:
        if config.output is None:
            write_likelihood(file.parent, evaluation_markdown(found))
        RunFolder(file.parent).write_json(file.name, found)
        print(f"\nThe same figures are in {file}.")


COMMAND = Command(main, EvaluateConfig, __doc__)
