"""Train a classifier from several starts, pre-training among them, and compare them fairly."""

from dbn.command_line import run_script
from dbn.config import FinetuneConfig, to_dict


def main(config: FinetuneConfig) -> None:
    """Train every arm under every seed; print one table and one sentence."""
    from dbn.comparison import Comparison
    from dbn.problem import load_problem
    from dbn.ranks import check_alike, host_by_host, is_first, together
    from dbn.report import heading, result, sentence, table
    from dbn.resuming import begin
    from dbn.runs import RunFolder
    from dbn.training import pick_device

    with together(pick_device(config.device)):
        with host_by_host():
            problem = load_problem(config)
        options, data = to_dict(config), problem.fingerprint
        check_alike([options, data])  # before anything is written
        if not is_first():
            Comparison(problem, RunFolder(config.run)).train()
            return
        with begin(config.run, options, resume=config.resume, overwrite=config.overwrite, data=data) as run:
            comparison = Comparison(problem, run)
            chosen = comparison.train(progress=True)
            test_errors = comparison.test(chosen)
            found = result(problem, chosen, test_errors)
            comparison.write(chosen, test_errors)
            run.write_json("result.json", found)
        print(f"{heading(found)}\n\n{table(found)}\n\n{sentence(found)}")


if __name__ == "__main__":
    run_script(main, FinetuneConfig, __doc__, several=True)
