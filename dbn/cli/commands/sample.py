"""Sample images or rows of a table from a pre-trained stack: Gibbs or tempered chains, then one downward pass."""

from typing import TYPE_CHECKING, Any

from dbn.cli.commands import Command
from dbn.config.inference import SampleConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from dbn.data.splits import Splits
    from dbn.models.dbn import DBN
    from dbn.models.label_model import LabelModel
    from dbn.sampling import Samples

LONGEST_SIDE = 80
"""Of an image in the grid, in pixels, about."""
FEW_SWAPS = 0.05
"""Of the swaps between two temperatures; below it chains hardly pass."""
COUNT = 64
"""Images by default."""


def main(config: SampleConfig) -> None:
    """Run the chains, write one PNG grid or a CSV table, and say how far the samples can be trusted."""
    from dbn.errors import InputError
    from dbn.models.dbn import DBN
    from dbn.plotting.images import as_images, enlarge, save_png, tile
    from dbn.runs.label_model import load_label_model
    from dbn.runs.weights import LABEL_MODEL, check_ended, load
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_csv
    from dbn.training.device import pick_device

    device = pick_device(config.device)
    with_labels = (config.run / LABEL_MODEL).is_file()
    if config.label is not None and not with_labels:
        check_ended(config.run)
        raise InputError(f"--label needs a model with labels, and {config.run} holds none: name a run of label-model")
    stack = load_label_model(config.run).to(device) if with_labels else load(config.run).to(device)
    table, is_csv = bool(stack.scaling.table), config.output.suffix.lower() == ".csv"
    shape = None if table else _shape(config, stack)
    if table != is_csv:
        what, ending = ("a table", ".csv") if table else ("images", ".png")
        raise InputError(f"--output {config.output}: samples of {config.run} are {what}, so name a file in {ending}")
    check_writable(config.output)
    found, how = _samples(config, stack) if isinstance(stack, DBN) else _labeled_samples(config, stack)
    shares = "" if config.classifier is None else _shares(config, stack, found.rows)
    if shape is None:
        cells = stack.scaling.cells(found.rows)
        write_csv(config.output, list(cells), zip(*cells.values(), strict=True), ".6g")
        written = "row"
    else:
        side = config.scale or max(1, round(LONGEST_SIDE / max(shape)))
        images = enlarge(as_images(found.rows, shape, stack.scaling), side)
        save_png(tile(images, max(1, round(len(images) ** 0.5))), config.output)
        written = "image"
    count = len(found.rows)
    print(f"{count} {written}{'s' * (count > 1)} {how}: {config.output}")
    for said in filter(None, [_trust(config, found.figures), shares]):
        print(said)


def _shape(config: SampleConfig, stack: "DBN | LabelModel") -> tuple[int, int, int]:
    """(channels, height, width) of the images; InputError where there is none, or of another size."""
    from dbn.errors import InputError
    from dbn.models.dbn import DBN
    from dbn.models.shapes import shape_of

    if config.image_shape is None:
        if stack.image_shape is None:
            name = "load" if isinstance(stack, DBN) else "load_label_model"
            raise InputError(
                f"{config.run} was trained on data without an image shape: name it with --image-shape, such as 8x8, or "
                f"use dbn.{name}(…).sample in Python"
            )
        return stack.image_shape
    return shape_of(config.image_shape, stack.width, config.run)


def _samples(config: SampleConfig, stack: "DBN") -> "tuple[Samples, str]":
    """The samples, and in words where they come from."""
    from dbn.sampling import Samples, TemperedChains, sample

    options: dict[str, Any] = {"draws": config.draws, "seed": config.seed}
    count = config.count or COUNT
    if config.start == "tempered":
        steps, temperatures = config.steps or 20, config.temperatures or 20
        chains = TemperedChains(steps, min(config.chains or 16, count), temperatures)
        found = sample(stack, count, chains=chains, **options)
        return found, f"of {chains.chains} chains at {temperatures} temperatures, {steps} Gibbs steps apart"
    if config.start == "noise":
        steps = config.steps or 1000
        found = Samples(stack.sample(count, steps=steps, **options), {})
    else:
        steps = config.steps or 100
        start = _starts(config, stack)
        found = sample(stack, len(start), start=start, steps=steps, **options)
    return found, f"after {steps} Gibbs steps from {config.start}"


def _labeled_samples(config: SampleConfig, model: "LabelModel") -> "tuple[Samples, str]":
    """As `_samples`, of one class where that is asked for, and how many of them the model itself gives that class."""
    from dbn.errors import InputError
    from dbn.rng import stream
    from dbn.runs.training_data import splits_of
    from dbn.sampling import Samples

    if config.start == "tempered":
        raise InputError("--start tempered does not go with a label model, whose chains are Gibbs steps: leave it out")
    steps, count, start = config.steps or 1000, config.count or COUNT, None
    device = model.rbm.weight.device
    if config.start == "data":
        splits = splits_of(config.run, data_dir=config.data_dir, kinds=model.scaling.kinds)
        rows = _first_rows(config, splits, otherwise="noise")
        count, start = len(rows), _given(model, rows.to(device))
    how: dict[str, Any] = {"label": config.label, "steps": steps, "draws": config.draws}
    found = model.sample(count, start=start, generator=stream(config.seed, "sample", device=device), **how)
    said = f"after {steps} Gibbs steps from {config.start}"
    if config.label is not None:
        scaling = model.scaling
        stored = found if scaling.codes is not None else scaling.inverse(found) * scaling.divisor
        own = model.predict(_given(model, stored), divisor=scaling.divisor)
        said += f", {own.count(config.label) / count:.0%} of them {config.label} by the model itself"
    return Samples(found, {}), said


def _given(model: "LabelModel", rows: "torch.Tensor") -> Any:
    """Rows as they are stored, as `LabelModel` takes them: of a table its cells."""
    return list(zip(*model.scaling.cells(rows).values(), strict=True)) if model.scaling.table else rows


def _starts(config: SampleConfig, stack: "DBN") -> "torch.Tensor":
    from dbn.finetuning.loading import matched
    from dbn.runs.training_data import splits_of

    splits, scaling = matched(splits_of(config.run, data_dir=config.data_dir, kinds=stack.scaling.kinds), [stack])
    place = stack.layers[0].weight.device
    scaled: torch.Tensor = scaling.to(place)(_first_rows(config, splits, otherwise="tempered").to(place))
    return scaled


def _first_rows(config: SampleConfig, splits: "Splits", *, otherwise: str) -> "torch.Tensor":
    """Validation rows to start from; InputError, with another start, where there are too few."""
    from dbn.errors import InputError

    valid = splits.valid
    count = config.count or min(COUNT, len(valid))
    if count > len(valid):
        raise InputError(
            f"--count {count} is more than the {len(valid)} validation rows to start from: ask for as many, or "
            f"--start {otherwise}"
        )
    return valid.x[:count]


def _trust(config: SampleConfig, figures: "Mapping[str, float]") -> str:
    """Sentences on the figures; empty where there are none."""
    if not figures:
        return ""
    alike = figures["chain_autocorrelation"]
    if config.start == "data":
        return (
            f"Autocorrelation with the samples one step from the start: {alike:.2f} (1: the same, 0: no more alike "
            "than those of other chains)."
        )
    said = f"Autocorrelation of a chain over these steps: {alike:.2f}; swaps accepted: {figures['swap_rate']:.0%}, "
    said += f"at least {figures['swap_rate_lowest']:.0%} between neighboring temperatures."
    if "effective_samples" in figures:
        said += f" The images are worth about {figures['effective_samples']:.0f} independent ones."
    if figures["swap_rate_lowest"] < FEW_SWAPS:
        said += " States hardly pass between some temperatures: give more --temperatures."
    return said


def _shares(config: SampleConfig, stack: "DBN | LabelModel", rows: "torch.Tensor") -> str:
    """A sentence on the classes that the classifier sees in the samples."""
    import torch

    from dbn.errors import InputError
    from dbn.runs.classifier import load_classifier

    assert config.classifier is not None
    classifier = load_classifier(config.classifier).to(rows.device)
    if classifier.width != rows.shape[1] or not classifier.scaling.standardizes_as(stack.scaling.cpu()):
        raise InputError(
            f"--classifier {config.classifier} was trained on data of another width or scale than {config.run}: name "
            "one of the same data"
        )
    with torch.no_grad():
        counts = torch.bincount(classifier.network(rows).argmax(1).cpu(), minlength=len(classifier.classes))
    shares = counts.double() / counts.sum()
    entropy, most = float(-torch.xlogy(shares, shares).sum()), torch.tensor(len(shares)).double().log()
    listed = ", ".join(f"{name} {share:.1%}" for name, share in zip(classifier.classes, shares.tolist(), strict=True))
    return f"Classes by {config.classifier}: {listed}; entropy {entropy:.2f} of at most {most:.2f} nats."


COMMAND = Command(main, SampleConfig, __doc__)
