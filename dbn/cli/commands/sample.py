"""Sample images or rows of a table from a pre-trained stack: Gibbs steps in the top RBM, then one downward pass."""

from dbn.cli.commands import Command
from dbn.config.inference import SampleConfig

COUNT = 64


def main(config: SampleConfig) -> None:
    """Run the chains and write one PNG grid, or a CSV table."""
    from dbn.errors import InputError
    from dbn.finetuning.loading import matched
    from dbn.plotting.images import as_images, save_png, tile
    from dbn.rng import stream
    from dbn.runs.training_data import splits_of
    from dbn.runs.weights import load
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    stack = load(config.run).to(device)
    table, is_csv = bool(stack.scaling.table), config.output.suffix.lower() == ".csv"
    if table != is_csv:
        what, ending = ("a table", ".csv") if table else ("images", ".png")
        raise InputError(f"--output {config.output}: samples of {config.run} are {what}, so name a file in {ending}")
    shape = stack.image_shape
    if shape is None and not table:
        raise InputError(f"{config.run} was trained on data without an image shape: use dbn.load(…).sample in Python")
    start, count = None, config.count or COUNT
    if config.start == "data":
        splits, scaling = matched(splits_of(config.run, data_dir=config.data_dir, kinds=stack.scaling.kinds), [stack])
        valid = splits.valid
        count = config.count or min(COUNT, len(valid))
        if count > len(valid):
            what = "rows" if table else "images"
            raise InputError(
                f"--count {count} is more than the {len(valid)} validation {what} to start from: ask for as many, or "
                "--start noise"
            )
        start = scaling.to(device)(valid.x[:count].to(device))
    check_writable(config.output)
    images = stack.sample(
        count, steps=config.steps, start=start, generator=stream(config.seed, "sample", device=device)
    )
    if shape is None:
        cells = stack.cells(images)
        write_csv(config.output, list(cells), zip(*cells.values(), strict=True), ".6g")
        print(f"{count} row{'s' * (count > 1)} after {config.steps} Gibbs steps from {config.start}: {config.output}")
        return
    columns = max(1, round(count**0.5))
    save_png(tile(as_images(images, shape, stack.scaling), columns), config.output)
    print(f"{count} image{'s' * (count > 1)} after {config.steps} Gibbs steps from {config.start}: {config.output}")


COMMAND = Command(main, SampleConfig, __doc__)
