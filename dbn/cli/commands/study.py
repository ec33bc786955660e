"""Compare initializations over a grid of depths, activations and numbers of labels, with significance tests."""

import os

from dbn.cli.commands import Command
from dbn.cli.config_files import load_config
from dbn.config.common import to_dict
from dbn.config.pretraining import PretrainConfig
from dbn.config.study import StudyConfig


def main(config: StudyConfig) -> None:
    """Check every cell, train those that are left, print the tables."""
    # Before torch loads Intel's library, where it has that: the same sums whatever the number of threads.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    from dbn.config.defaults import told
    from dbn.runs.resume import begin, cut_as_begun
    from dbn.study.runner import run_study, write_study_card
    from dbn.study.study import Study

    recipe = load_config(PretrainConfig, config.recipe, "--recipe ") if config.recipe else None
    config = cut_as_begun(config)
    study = Study(config, recipe)
    study.check()
    # The number of processes and threads may change between calls.
    options = {name: value for name, value in to_dict(study.config).items() if name not in ("workers", "threads")}
    with begin(config.run, options, resume=config.resume, overwrite=config.overwrite, data=study.fingerprint):
        if sentence := study.splits.describe_labels():
            print(sentence)
        if chosen := told(config.training, study.config.training):
            print(f"Chosen for the numbers of labels: {chosen}")
        was_complete = study.is_complete
        text = run_study(study, progress=None)
        write_study_card(study, text)
        print(text)
    if was_complete:
        print("This study is complete, and no cell was left to do.")
    print(f"This is {config.run}/study.md; every number is in results.jsonl beside it.")


COMMAND = Command(main, StudyConfig, __doc__, reports=True)
