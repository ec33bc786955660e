"""Train a model of rows and labels together, which classifies and samples by class."""

from dataclasses import replace

from dbn.cli.command_line import command_to_type
from dbn.cli.commands import Command
from dbn.config.common import DataConfig, to_dict
from dbn.config.label_model import LabelModelConfig


def main(config: LabelModelConfig) -> None:
    """Load the data, train, print the validation scores and where the model is."""
    from dbn.config.defaults import told
    from dbn.data.examples import labels_of
    from dbn.pretraining.label_model import LabeledRows, begin_labels
    from dbn.pretraining.pretrain import describe_table
    from dbn.runs.resume import cut_as_begun
    from dbn.runs.training_data import splits_for
    from dbn.runs.weights import LABEL_MODEL, load
    from dbn.tasks.metrics import scores
    from dbn.training.device import pick_device

    if config.dataset is None and config.pretrained is None:
        config = replace(config, dataset=DataConfig().dataset)
    config = cut_as_begun(config)
    device = pick_device(config.device)
    stack = None if config.pretrained is None else load(config.pretrained)
    runs = () if config.pretrained is None else (config.pretrained,)
    kinds = config.training.kinds if stack is None else stack.scaling.kinds
    splits = splits_for(config.dataset, runs, kinds=kinds, **config.reading())
    given = config.training
    labeled = LabeledRows.of(splits, given, device, stack)
    config = replace(config, training=labeled.config)
    with begin_labels(config.run, labeled, to_dict(config), config.resume, config.overwrite) as run:
        print(splits.describe(standardized=labeled.about["scaling"].shift is not None))
        if splits.table:
            print(describe_table(splits))
        if chosen := told(given, labeled.config):
            print(f"Chosen for {len(splits.train):,} rows: {chosen}")
        model = labeled.train(run, progress=None)
    first = [record for record in model.history if record["layer"] == 1 and "valid_error" in record]
    if labeled.config.up_down and first:
        was = first[-1]
        print(
            f"Before up-down fine-tuning the validation error was {was['valid_error']:.2f} %, the log-loss "
            f"{was['valid_log_loss']:.4f} nats."
        )
    last = model.history[-1] if model.history else {}
    if "valid_error" in last:
        print(f"Validation error {last['valid_error']:.2f} %, log-loss {last['valid_log_loss']:.4f} nats.")
    if splits.test is not None and splits.test.y is not None:
        tested = splits.test.labeled()
        divisor = splits.divisor if splits.divisor_given else None
        match = model.match(
            tested.x, f"{splits.name}: test data", divisor=divisor, columns=splits.columns, table=splits.table
        )
        found = scores(model.logits(tested.x, match), labels_of(tested))
        print(f"Test error {found.error:.2f} % of {len(tested):,} examples, log-loss {found.log_loss:.4f} nats.")
    print(f"The model is in {config.run}/{LABEL_MODEL}.")
    if model.generative and (model.image_shape or splits.table):
        output = "samples.csv" if splits.table else "samples.png"
        next_command = "sample", "--run", config.run, "--label", model.classes[0], "--output", output
    else:
        next_command = "predict", "--run", config.run, "--data", "FILE", "--output", "predictions.csv"
    print(f"Next: {command_to_type(*next_command)}")


COMMAND = Command(main, LabelModelConfig, __doc__, reports=True)
