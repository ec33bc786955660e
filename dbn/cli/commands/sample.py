"""Sample images or rows of a table from a pre-trained stack: Gibbs steps in the top RBM, then one downward pass."""

from functools import partial
from typing import Any

from dbn.cli.commands import Command
from dbn.config.inference import SampleConfig

COUNT = 64


def main(config: SampleConfig) -> None:
    """Run the chains and write one PNG grid, or a CSV table."""
    from dbn.errors import InputError
    from dbn.finetuning.loading import matched
    from dbn.models.label_model import LabelModel
    from dbn.plotting.images import as_images, save_png, tile
    from dbn.rng import stream
    from dbn.runs.label_model import LABEL_MODEL, load_label_model
    from dbn.runs.training_data import splits_of
    from dbn.runs.weights import load
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    with_labels = (config.run / LABEL_MODEL).is_file()
    if config.label is not None and not with_labels:
        raise InputError(f"--label needs a model with labels, and {config.run} holds none: name a run of label-model")
    stack = load_label_model(config.run).to(device) if with_labels else load(config.run).to(device)
    table, is_csv = bool(stack.scaling.table), config.output.suffix.lower() == ".csv"
    if table != is_csv:
        what, ending = ("a table", ".csv") if table else ("images", ".png")
        raise InputError(f"--output {config.output}: samples of {config.run} are {what}, so name a file in {ending}")
    shape = stack.image_shape
    if shape is None and not table:
        name = "load_label_model" if with_labels else "load"
        raise InputError(f"{config.run} was trained on data without an image shape: use dbn.{name}(…).sample in Python")
    count = config.count or COUNT
    start: Any = None
    if config.start == "data":
        splits = splits_of(config.run, data_dir=config.data_dir, kinds=stack.scaling.kinds)
        splits, scaling = (splits, None) if isinstance(stack, LabelModel) else matched(splits, [stack])
        valid = splits.valid
        count = config.count or min(COUNT, len(valid))
        if count > len(valid):
            what = "rows" if table else "images"
            raise InputError(
                f"--count {count} is more than the {len(valid)} validation {what} to start from: ask for as many, or "
                "--start noise"
            )
        start = valid.x[:count].to(device)
        if scaling is not None:
            start = scaling.to(device)(start)
        elif table:
            start = list(zip(*stack.scaling.cells(start).values(), strict=True))
    check_writable(config.output)
    generator = stream(config.seed, "sample", device=device)
    draw = partial(stack.sample, label=config.label) if isinstance(stack, LabelModel) else stack.sample
    images = draw(count, steps=config.steps, start=start, generator=generator)
    if shape is None:
        cells = stack.scaling.cells(images)
        write_csv(config.output, list(cells), zip(*cells.values(), strict=True), ".6g")
        print(f"{count} row{'s' * (count > 1)} after {config.steps} Gibbs steps from {config.start}: {config.output}")
        return
    columns = max(1, round(count**0.5))
    save_png(tile(as_images(images, shape, stack.scaling), columns), config.output)
    print(f"{count} image{'s' * (count > 1)} after {config.steps} Gibbs steps from {config.start}: {config.output}")


COMMAND = Command(main, SampleConfig, __doc__)
