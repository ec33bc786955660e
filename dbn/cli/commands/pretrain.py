"""Pre-train a stack of restricted Boltzmann machines on unlabeled data."""

from dataclasses import replace

from dbn.cli.command_line import command_to_type
from dbn.cli.commands import Command
from dbn.config.common import to_dict
from dbn.config.pretraining import PretrainConfig


def main(config: PretrainConfig) -> None:
    """Load the data, train layer by layer, print where the result is."""
    from dbn.config.defaults import told
    from dbn.data.datasets import load_splits
    from dbn.data.marks import NO_LABEL
    from dbn.errors import offering_missing
    from dbn.models.idle import idle_sentence
    from dbn.pretraining.pretrain import describe_table, for_table, idle_in, summary, unlabeled
    from dbn.pretraining.stack import begin_pretraining, is_complete, pretrain_stack
    from dbn.runs.resume import cut_as_begun
    from dbn.tasks import TASKS
    from dbn.training.device import pick_device
    from dbn.training.distributed import check_alike, host_by_host, is_main, process_group

    config = cut_as_begun(config)
    device = pick_device(config.device)
    with process_group(device):
        with host_by_host(), offering_missing():
            reading = {"read_labels": TASKS[config.task].read, "kinds": config.training.kinds} | config.data.reading()
            reading["missing"] = config.training.missing != "refuse"
            splits = load_splits(config.data.dataset, **reading)
        rows, columns = splits.train.x.shape
        config = replace(config, training=for_table(config.training, splits))
        given, config = config.training, replace(config, training=config.training.for_data(rows, columns))
        data = unlabeled(splits, config.training, device)
        check_alike([to_dict(config), splits.fingerprint])  # before anything is written
        if not is_main():
            pretrain_stack(data, config.training)
            return
        run = begin_pretraining(
            config.run,
            config.training,
            to_dict(config),
            splits.fingerprint,
            resume=config.resume,
            overwrite=config.overwrite,
        )
        with run:
            was_complete = is_complete(run, config.training)
            if not was_complete:
                as_used = replace(splits, divisor=data.scaling.divisor)
                scaling = data.scaling
                print(as_used.describe(standardized=scaling.shift is not None, codes=scaling.codes is not None))
                if splits.table:
                    print(describe_table(splits))
                if chosen := told(given, config.training):
                    print(f"Chosen for {rows:,} rows of {columns:,} values: {chosen}")
            stack = pretrain_stack(data, config.training, run, progress=None)
        place = f"stack is in {config.run}/dbn.safetensors, its weights for other code in encoder.safetensors."
        if was_complete:
            print(f"This run is complete, and nothing was done: the {place}")
        else:
            print(f"{summary(run.metrics())}\nThe {place}")
            if idle := idle_in(stack, data):
                print(idle_sentence(idle))
            words = ["--pretrained", config.run, "--run", f"{config.run}-finetuned"]
            labeled = [] if splits.classes or splits.targets else ["--dataset", "FILE-WITH-LABELS"]
            if splits.classes and splits.label_error:  # classes and their mark, which fine-tuning wants to be told
                labeled = ["--unlabeled", NO_LABEL]
            task = ["--task", config.task] if config.task != "classify" else []
            print(f"Next: {command_to_type('finetune', *words, *labeled, *task)}")


COMMAND = Command(main, PretrainConfig, __doc__, several=True, reports=True)
