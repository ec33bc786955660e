"""Train a classifier from several initializations, pre-training among them, and compare them."""

from dataclasses import replace

from dbn.cli.command_line import command_to_type
from dbn.cli.commands import Command
from dbn.config.common import to_dict
from dbn.config.finetuning import FinetuneConfig


def main(config: FinetuneConfig) -> None:
    """Train every arm with every seed; print one table and one sentence."""
    from dbn.config.defaults import told
    from dbn.finetuning.card import write_comparison_card
    from dbn.finetuning.comparison import Comparison
    from dbn.finetuning.loading import load_problem
    from dbn.finetuning.recorder import begin_logs, end_logs
    from dbn.finetuning.report import comparison_text, finished
    from dbn.finetuning.summary import result
    from dbn.runs.folder import RESULT, RunFolder
    from dbn.runs.resume import begin, cut_as_begun
    from dbn.training.device import pick_device
    from dbn.training.distributed import any_rank, check_alike, host_by_host, is_main, process_group

    config = cut_as_begun(config)
    with process_group(pick_device(config.device)):
        with host_by_host():
            problem = load_problem(config)
        options, data = to_dict(replace(config, training=problem.config)), problem.fingerprint
        check_alike([options, data])  # before anything is written
        if not is_main():
            if not any_rank(False):
                Comparison(problem, RunFolder(config.run)).train()
            return
        with begin(config.run, options, resume=config.resume, overwrite=config.overwrite, data=data) as run:
            before = finished(run)
            if any_rank(before is not None):
                print(
                    f"{before}\n\nThis run is complete, and nothing was done: all numbers are in {config.run}/{RESULT}."
                )
                return
            if sentence := problem.splits.describe_labels():
                print(sentence)
            if chosen_options := told(config.training, problem.config):
                print(f"Chosen for {problem.labels:,} labels: {chosen_options}")
            comparison = Comparison(problem, run)
            begin_logs(run, problem)
            chosen = comparison.train(progress=None)
            tested = comparison.test(chosen)
            found = result(problem, chosen, tested)
            comparison.write(chosen, tested, codes=True)
            end_logs(run, problem, tested, comparison_text(found))
            write_comparison_card(run, problem.sizes, found)
            run.write_json(RESULT, found)
        picture, _, shown = problem.task.picture.partition(", ")
        pictures = f", {shown} in {picture} beside it" * bool(picture)
        words = "--run", config.run, "--data", "FILE", "--output", "predictions.csv"
        print(
            f"{comparison_text(found)}\nAll numbers are in {config.run}/{RESULT}{pictures}. "
            f"Curves: tensorboard --logdir {config.run}\nNext: {command_to_type('predict', *words)}"
        )


COMMAND = Command(main, FinetuneConfig, __doc__, several=True, reports=True)
