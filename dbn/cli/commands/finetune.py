"""Train a classifier from several initializations, pre-training among them, and compare them."""

from dbn.cli.commands import Command
from dbn.config.common import to_dict
from dbn.config.finetuning import FinetuneConfig


def main(config: FinetuneConfig) -> None:
    """Train every arm with every seed; print one table and one sentence."""
    from dbn.finetuning.comparison import Comparison
    from dbn.finetuning.problem import load_problem
    from dbn.finetuning.report import comparison_text, finished, result
    from dbn.runs.folder import RESULT, RunFolder
    from dbn.runs.resume import begin, cut_as_begun
    from dbn.training.device import pick_device
    from dbn.training.distributed import any_rank, check_alike, host_by_host, is_main, process_group

    config = cut_as_begun(config)
    with process_group(pick_device(config.device)):
        with host_by_host():
            problem = load_problem(config)
        options, data = to_dict(config), problem.fingerprint
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
            if told := problem.splits.describe_labels():
                print(told)
            comparison = Comparison(problem, run)
            chosen = comparison.train(progress=True)
            test_errors = comparison.test(chosen)
            found = result(problem, chosen, test_errors)
            comparison.write(chosen, test_errors)
            run.write_json(RESULT, found)
        print(comparison_text(found))


COMMAND = Command(main, FinetuneConfig, __doc__, several=True)
