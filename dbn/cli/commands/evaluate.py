"""Evaluate a pre-trained stack or an RBM from elsewhere: log Z, and log-likelihoods or their lower bound."""

from dbn.cli.commands import Command
from dbn.config.evaluation import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    """Load model and data, measure, write the tables as JSON and print them."""
    from dbn.evaluation.checkpoint import evaluation_checkpoint
    from dbn.evaluation.external_rbm import read_model
    from dbn.evaluation.measure import evaluate_stack
    from dbn.evaluation.report import evaluation_markdown, evaluation_text
    from dbn.evaluation.sources import load_evaluation_data
    from dbn.runs.card import write_likelihood
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    stack = read_model(config.run)
    data = load_evaluation_data(stack, config)
    with evaluation_checkpoint(stack, data, config, device) as kept:
        found = evaluate_stack(stack.to(device), data.to(device), config, progress=None, kept=kept)
        if kept is not None:
            if config.output is None:
                write_likelihood(kept.result.parent, evaluation_markdown(found))
            kept.finish(found)
    print(evaluation_text(found))
    if kept is not None:
        print(f"\nThe same figures are in {kept.result}.")


COMMAND = Command(main, EvaluateConfig, __doc__)
