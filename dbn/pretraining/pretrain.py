"""Greedy layer-by-layer training of a stack: each RBM learns the features of the trained ones below.

Hinton, Osindero & Teh (2006); Bengio et al. (2006), "Greedy layer-wise training of deep networks".
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Any, Unpack

import torch
from numpy.typing import NDArray
from torch import Tensor

from dbn.config.common import ALIASES, to_dict
from dbn.config.pretraining import Pretraining
from dbn.config.schedules import Schedule
from dbn.data.binarize import binarize
from dbn.data.splits import Splits, splits_from_arrays
from dbn.errors import InputError, naming_arguments
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling, as_float, standardization
from dbn.models.units import UNITS, Units
from dbn.pretraining.layer_data import ROWS_AT_ONCE, Unlabeled
from dbn.pretraining.options import PretrainArguments, PretrainingOptions
from dbn.pretraining.penalties import penalties
from dbn.pretraining.recorder import rewind_logs
from dbn.pretraining.trainer import Diverged, LayerTrainer
from dbn.registry import suggestion
from dbn.rng import stream
from dbn.runs.folder import RunFolder
from dbn.runs.resume import begin, started_with
from dbn.runs.weights import ENCODER, load, save_stack
from dbn.storage.files import corrupt_file
from dbn.storage.tensors import read_tensors
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback
from dbn.training.device import matmul_dtype, pick_device

LOGGER = logging.getLogger(__name__)


def pretrain(
    x: Tensor | NDArray,
    hidden: int | Sequence[int] | None = None,
    *,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = False,
    callback: Callback | None = None,
    **options: Unpack[PretrainingOptions],
) -> DBN:
    """Train a stack of RBMs on unlabeled rows, layer by layer.

    x: (N, V), or images (N, H, W) or (N, C, H, W); bytes or floats in [0, 1], or any real values with
    visible="gaussian". One tenth, at most 5,000 rows, is for validation.
    hidden: units of each layer, from the data upwards; 500, 500 and 2000 by default, and at most a quarter of the rows.
    run: a new folder for metrics, images, checkpoints and weights; without it nothing is written. resume: resume the
    run in that folder, with the same rows and options. overwrite: replace it.
    callback: called with each line of metrics.jsonl as a dict, after an epoch; an exception ends the run, which
    `resume` continues after that epoch.
    options: the fields of `dbn.config.Pretraining`; `dbn.config.defaults` chooses those left out by the size of x.

    The `history` of the result is the list of those dicts. InputError for data or options that cannot be used, for a
    folder that is not empty, and when a layer diverges. KeyboardInterrupt after Ctrl-C; with a run folder, after the
    step in progress and a checkpoint.

    >>> import torch
    >>> stack = pretrain(torch.rand(100, 20), hidden=[10, 5], epochs=2, batch_size=10)
    >>> stack.sizes, stack.history[-1]["layer"], stack.history[-1]["epoch"]
    ([20, 10, 5], 2, 2)
    """
    if resume and overwrite:
        raise InputError("resume=True does not go with overwrite=True: one keeps the run, the other replaces it")
    if run is None and (resume or overwrite):
        raise InputError(f"{'resume' if resume else 'overwrite'}=True needs a run folder: name it with run")
    given: dict[str, Any] = {ALIASES.get(name, name): value for name, value in options.items()}
    known = [each.name for each in fields(Pretraining)]
    for name in given:
        if name not in known:
            raise InputError(f"pretrain has no option {name!r}{suggestion(name, known)}")
    with naming_arguments():
        given["hidden"] = hidden if hidden is None or isinstance(hidden, Integral) else tuple(hidden)  # type: ignore[arg-type]
        config = Pretraining(**given)
        splits = splits_from_arrays(x)
        config = started_with(Path(run), config) if resume and run is not None else config
        config = config.for_data(*splits.train.x.shape)
        distributed.check_alike([to_dict(config), splits.fingerprint])
        data = unlabeled(splits, config, pick_device(device))
        with (
            nullcontext()
            if run is None or not distributed.is_main()
            else begin_pretraining(
                Path(run), config, to_dict(config), splits.fingerprint, resume=resume, overwrite=overwrite
            )
        ) as folder:
            return pretrain_stack(data, config, folder, progress=progress, callback=callback)


def train_rbm(x: Tensor | NDArray, hidden: int = 500, **options: Unpack[PretrainArguments]) -> RBM:
    """Train one RBM on unlabeled rows: `pretrain` with one layer, and with the same arguments.

    The RBM takes scaled values, without the scaling that a `DBN` keeps: bytes divided by 255, columns standardized with
    visible="gaussian".

    >>> import torch
    >>> rbm = train_rbm(torch.rand(100, 20), hidden=10, estimator="pcd", epochs=2, batch_size=10)
    >>> rbm.up(torch.rand(5, 20)).shape
    torch.Size([5, 10])
    """
    count: Any = hidden
    if not isinstance(count, Integral):
        raise InputError(f"hidden must be one number of units, not {hidden!r}: use dbn.pretrain for several layers")
    return pretrain(x, hidden, **options).layers[0]


def begin_pretraining(
    path: Path, config: Pretraining, options: Mapping[str, Any], data: str, *, resume: bool, overwrite: bool
) -> RunFolder:
    """As `begin`, for the run of `options`, which include `config`; the last layer may train for more epochs."""
    harmless = partial(train_longer, config)
    return begin(path, options, resume=resume, overwrite=overwrite, data=data, harmless=harmless)


def unlabeled(splits: Splits, config: Pretraining, device: torch.device) -> Unlabeled:
    """The rows of training and validation on the device, and the scaling of the visible units.

    InputError for values that the visible units cannot take, for layers that cannot be tied, for penalties that cannot
    be made, for a precision that the device does not have, and for fewer examples per batch or chains than processes.
    """
    config = config.for_data(*splits.train.x.shape)
    penalties(config)
    matmul_dtype(config.precision, device)
    distributed.check_shares("batch-size", config.batch_size)
    distributed.check_shares("chains", config.chains)
    check_range(splits, UNITS[config.visible])
    standard = standardization(splits.train.x, splits.divisor) if UNITS[config.visible].standardized else ()
    scaling = Scaling(splits.divisor, *standard)
    with torch.device("meta"):  # before a lower layer is trained in vain
        rbms = _new_rbms(splits.train.x.shape[1], config)
    for lower, upper in pairwise(rbms) if config.tied else ():
        upper.init_from_transpose(lower)
    parts = {"train": splits.train.x, "valid": splits.valid.x}
    if config.binarize == "fixed":
        # Once, so that every layer and measurement sees the same pixels.
        for part, x in parts.items():
            drawn = stream(config.seed, "pixels", part)
            pixels = [binarize(scaling(rows), "fixed", drawn) * scaling.divisor for rows in x.split(ROWS_AT_ONCE)]
            parts[part] = torch.cat([rows.to(torch.uint8) for rows in pixels])
    return Unlabeled(parts["train"].to(device), parts["valid"].to(device), scaling.to(device), splits.image_shape)


def check_range(splits: Splits, units: type[Units]) -> None:
    """InputError unless the units can take all values, after division."""
    for purpose, part in (("training", splits.train), ("validation", splits.valid), ("test", splits.test)):
        if part is not None:
            least, greatest = (as_float(value, splits.divisor).item() for value in part.x.aminmax())
            if wrong := units.range_error(least, greatest):
                raise InputError(f"{splits.name}: {purpose} values go from {least:g} to {greatest:g}, but {wrong}")


def summary(records: Sequence[Mapping[str, float]]) -> str:
    """One line per layer: its last measurements and its seconds; – for what is not finite or missing."""
    lines = ["layer  epochs  reconstruction error  KL (nats)  validation KL  free-energy gap  seconds"]
    for layer in sorted({record["layer"] for record in records}):
        of_layer = [record for record in records if record["layer"] == layer]
        last = of_layer[-1]
        seconds = sum(record["seconds"] for record in of_layer if isinstance(record.get("seconds"), float))
        widths = {"reconstruction_error": 20, "kl": 9, "valid_kl": 13, "free_energy_gap": 15}
        values = [(last.get(name), width) for name, width in widths.items()]
        cells = [f"{value:{width}.2f}" if isinstance(value, float) else f"{'–':>{width}}" for value, width in values]
        lines.append("  ".join([f"{layer:5}", f"{last['epoch']:6}", *cells, f"{seconds:7.1f}"]))
    return "\n".join(lines)


def pretrain_stack(
    data: Unlabeled,
    config: Pretraining,
    run: RunFolder | None = None,
    *,
    progress: bool = False,
    callback: Callback | None = None,
) -> DBN:
    """Train a DBN, or resume the run in a folder; a complete run is left as it is.

    Of several ranks rank 0 alone has the folder, calls back and gives the result a `history`. InputError when a layer
    diverges, and for a checkpoint that is missing or of another run. A signal raises `Stopped` after a checkpoint, or
    KeyboardInterrupt without a run folder.
    """
    config = config.for_data(*data.train.shape)
    if distributed.any_rank(run is not None and is_complete(run, config)):
        return _ended(data, run, config)
    state = distributed.broadcast_state(run.load_checkpoint(data.train.device) if run else None)
    if run:
        _check_state(run, state, config)
        rewind_logs(run, *((0, 0) if state is None else (state["layer"], state["epoch"])))
    stack: list[RBM] = []
    history: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        history.append(record)
        if callback:
            callback(dict(record))

    for layer in range(1, len(config.hidden) + 1):
        rbm = new_rbm(data.train.shape[1], layer, config).to(data.train.device)
        try:
            if state is not None and layer < state["layer"]:
                rbm.load_state_dict(state["rbms"][layer - 1])
            if state is None or layer >= state["layer"]:
                trainer = LayerTrainer(rbm, stack, data, config)
            if state is not None and layer == state["layer"]:
                trainer.load_state(state)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if state is None or isinstance(error, InputError):
                raise
            file = run.checkpoint.path if run else Path("the checkpoint of rank 0")
            raise corrupt_file(file, "it is not of this run") from error
        if state is None or layer >= state["layer"]:
            try:
                trainer.train(run, progress=progress, callback=report)
            except Diverged as error:
                kept = _keep_last_good(data, config, run)
                distributed.barrier()  # a rank that ends would end the others
                raise InputError(f"{error}{kept}") from error
        stack.append(rbm.requires_grad_(False))
    dbn = DBN(stack, data.scaling, data.image_shape).eval()
    dbn.history = run.metrics() if run else history
    if run:
        save_stack(run.path, dbn)
    return dbn


def is_complete(run: RunFolder, config: Pretraining) -> bool:
    """Whether all epochs are done and the stack is written."""
    last = len(config.hidden), config.for_layer(len(config.hidden) - 1).epochs
    try:
        if max(((each["layer"], each["epoch"]) for each in run.metrics()), default=None) != last:
            return False
        stack = load(run.path)
        written, encoder = stack.state_dict(), read_tensors(run.path / ENCODER)[0]
        if not all(value.equal(encoder[name]) for name, value in stack.encoder().state_dict().items()):
            return False
        state = run.load_checkpoint()
        if state is None:
            return True
        trained = [*state["rbms"][:-1], (state["averaged"] or {"module": state["rbms"][-1]})["module"]]
        is_last = (state["layer"], state["epoch"], state["position"]) == (*last, 0)
        return is_last and all(
            value.equal(written[f"rbms.{number}.{name}"])
            for number, rbm in enumerate(trained)
            for name, value in rbm.items()
        )
    except (LookupError, TypeError, ValueError, AttributeError):  # resuming says what is wrong
        return False


def _ended(data: Unlabeled, run: RunFolder | None, config: Pretraining) -> DBN:
    """The stack of a complete run, on every rank."""
    weights = distributed.broadcast_state(load(run.path).to(data.train.device).state_dict() if run else None)
    stack = DBN(_new_rbms(data.train.shape[1], config), data.scaling, data.image_shape)
    stack.load_state_dict(weights)
    stack.history = run.metrics() if run else []
    return stack.to(data.train.device).requires_grad_(False).eval()


def _check_state(run: RunFolder, state: dict[str, Any] | None, config: Pretraining) -> None:
    """InputError for a checkpoint of another run or missing; a warning for epochs missing from metrics.jsonl."""
    try:
        logged = {(record["layer"], record["epoch"]) for record in run.metrics()}
        latest = max(logged, default=(0, 0))
    except (LookupError, TypeError) as error:
        raise corrupt_file(run.path / "metrics.jsonl", "a line is no record of an epoch") from error
    if state is None:
        if latest > (1, 2):  # a checkpoint is written while the next epoch trains
            raise InputError(
                f"{run.path} has reached layer {latest[0]}, epoch {latest[1]}, but {run.checkpoint.path} is missing: "
                "put it back, or start again with --overwrite"
            )
        return
    layer, epoch = state.get("layer"), state.get("epoch")
    if type(layer) is not int or type(epoch) is not int or not 1 <= layer <= len(config.hidden):
        raise corrupt_file(run.checkpoint.path, "it is not of a layer of this run")
    if epoch and (layer, epoch) not in logged:
        LOGGER.warning("%s has no record of layer %d, epoch %d", run.path / "metrics.jsonl", layer, epoch)


def train_longer(config: Pretraining, before: Mapping[str, Any]) -> tuple[str, ...]:
    """("epochs",) if a run with the options `before` may be resumed with the epochs of `config`, else nothing.

    The last layer may train for more of them, unless one of its schedules is a line over all epochs, of which the first
    would then have been different. The result is that of as many epochs from the start.
    """
    layers = len(config.hidden)
    now = (config.epochs * layers)[:layers]
    was = before.get("epochs")
    if not isinstance(was, list) or len(was) not in (1, layers) or not all(type(each) is int for each in was):
        return ()
    was = (was * layers)[:layers]
    setting = config.for_layer(layers - 1)
    lines = [each for each in setting if isinstance(each, Schedule) and each.end is not None]
    return ("epochs",) if list(now[:-1]) == was[:-1] and now[-1] >= was[-1] and not lines else ()


def _keep_last_good(data: Unlabeled, config: Pretraining, run: RunFolder | None) -> str:
    """Save the stack of the last checkpoint, if there is one; an addition to the error message."""
    state = run.load_checkpoint(data.train.device) if run else None
    if run is None or state is None:
        return ""
    rbms = _new_rbms(data.train.shape[1], config)[: state["layer"]]
    for rbm, parameters in zip(rbms, state["rbms"], strict=True):
        rbm.load_state_dict(parameters)
    if state["averaged"]:
        rbms[-1].load_state_dict(state["averaged"]["module"])
    save_stack(run.path, DBN(rbms, data.scaling, data.image_shape))
    place = f"layer {state['layer']}, epoch {state['epoch']}"
    if state["position"]:
        place += f" and {state['position']} steps"
    return f"; {run.path} keeps the stack as of {place}"


def new_rbm(n_visible: int, layer: int, config: Pretraining) -> RBM:
    """The RBM of layer 1, 2, … with parameters 0; its visible units are of the type of the hidden ones below."""
    sizes = [n_visible, *config.hidden]
    visible, hidden = (UNITS[kind] for kind in config.unit_kinds[layer - 1 : layer + 1])
    return RBM(visible(sizes[layer - 1]), hidden(sizes[layer]))


def _new_rbms(n_visible: int, config: Pretraining) -> list[RBM]:
    return [new_rbm(n_visible, layer, config) for layer in range(1, len(config.hidden) + 1)]
