"""A run of pre-training: begin or resume it, train layer after layer, save the stack."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dbn.config.pretraining import Pretraining
from dbn.config.schedules import Schedule
from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units.naming import make_units
from dbn.pretraining.divergence import Diverged
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.layer_run import train_layer
from dbn.pretraining.recorder import begin_logs, end_logs
from dbn.pretraining.trainer import LayerTrainer
from dbn.runs.card import write_model_card
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.resume import begin
from dbn.runs.weights import ENCODER, load, save_stack
from dbn.storage.files import corrupt_file
from dbn.storage.schema import Mismatch, reason
from dbn.storage.tensors import read_tensors
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback

LOGGER = logging.getLogger(__name__)


def begin_pretraining(
    path: Path, config: Pretraining, options: Mapping[str, Any], data: str, *, resume: bool, overwrite: bool
) -> RunFolder:
    """As `begin`, for the run of `options`, which include `config`; the last layer may train for more epochs."""
    harmless = partial(train_longer, config)
    last = len(config.hidden)
    longer = "" if last == 1 else "train the last layer alone for more epochs (one value a layer)"
    if lines_of(config, last - 1):
        longer = "whose number is fixed by a schedule that spans them"
    return begin(path, options, resume=resume, overwrite=overwrite, data=data, harmless=harmless, longer=longer)


def pretrain_stack(
    data: Unlabeled,
    config: Pretraining,
    run: RunFolder | None = None,
    *,
    progress: bool | None = False,
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
        check_state(run, state, len(config.hidden))
        begin_logs(run, config, *((0, 0) if state is None else (state["layer"], state["epoch"])))
        data = data._replace(folder=run.path)
    stack: list[RBM] = []
    history: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        history.append(record)
        if callback:
            callback(dict(record))

    for layer in range(1, len(config.hidden) + 1):
        with data.train.device:  # whatever the default device is
            rbm = new_rbm(data.width, layer, config)
        try:
            if state is not None and layer < state["layer"]:
                rbm.load_state_dict(state["rbms"][layer - 1])
            if state is None or layer >= state["layer"]:
                trainer = LayerTrainer(rbm, stack, data, config)
            if state is not None and layer == state["layer"]:
                trainer.load_state(state)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if state is None or (isinstance(error, InputError) and not isinstance(error, Mismatch)):
                raise
            file = run.checkpoint.path if run else Path("the checkpoint of rank 0")
            raise corrupt_file(file, f"it is not of this run{reason(error)}") from error
        if state is None or layer >= state["layer"]:
            try:
                train_layer(trainer, run, progress=progress, callback=report)
            except Diverged as error:
                kept = _keep_last_good(data, config, run)
                distributed.barrier()  # a rank that ends would end the others
                raise InputError(f"{error}{kept}") from error
            del trainer  # and its features, before the next layer's are computed
        stack.append(rbm.requires_grad_(False))
    dbn = DBN(stack, data.scaling, data.image_shape).eval()
    dbn.history = run.metrics(LAYER_RECORD) if run else history
    if run:
        end_logs(run, config, data, dbn)
        write_model_card(run, dbn, data.train, data.valid)
        (run.path / RESULT).unlink(missing_ok=True)  # an evaluation of the stack before it was trained for longer
        save_stack(run.path, dbn)
    return dbn


def is_complete(run: RunFolder, config: Pretraining) -> bool:
    """Whether all epochs are done and the stack is written."""
    last = len(config.hidden), config.for_layer(len(config.hidden) - 1).epochs
    try:
        if max(((each["layer"], each["epoch"]) for each in run.metrics(LAYER_RECORD)), default=None) != last:
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
    with data.train.device:
        stack = DBN(new_rbms(data.width, config), data.scaling, data.image_shape)
    stack.load_state_dict(weights)
    stack.history = run.metrics(LAYER_RECORD) if run else []
    return stack.requires_grad_(False).eval()


def check_state(run: RunFolder, state: dict[str, Any] | None, layers: int) -> None:
    """InputError for a checkpoint that is missing or of another run than one of so many layers.

    A warning for epochs missing from metrics.jsonl.
    """
    logged = {(record["layer"], record["epoch"]) for record in run.metrics(LAYER_RECORD)}
    latest = max(logged, default=(0, 0))
    if state is None:
        if latest > (1, 2):  # a checkpoint is written while the next epoch trains
            raise InputError(
                f"{run.path} has reached layer {latest[0]}, epoch {latest[1]}, but {run.checkpoint.path} is missing: "
                "put it back, or start again with --overwrite"
            )
        return
    layer, epoch = state.get("layer"), state.get("epoch")
    if type(layer) is not int or type(epoch) is not int or not 1 <= layer <= layers:
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
    is_longer = list(now[:-1]) == was[:-1] and now[-1] >= was[-1]
    return ("epochs",) if is_longer and not lines_of(config, layers - 1) else ()


def lines_of(config: Pretraining, layer: int) -> list[Schedule]:
    """The schedules of a layer, counted from 0, that are a line over all epochs."""
    return [each for each in config.for_layer(layer) if isinstance(each, Schedule) and each.end is not None]


def _keep_last_good(data: Unlabeled, config: Pretraining, run: RunFolder | None) -> str:
    """Save the stack of the last checkpoint, if there is one; an addition to the error message."""
    state = run.load_checkpoint(data.train.device) if run else None
    if run is None or state is None:
        return f"; the run that was in {run.path} is replaced and gone" if run and run.replaced else ""
    with data.train.device:
        rbms = new_rbms(data.width, config)[: state["layer"]]
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
    visible, hidden = (make_units(config.unit_kinds[n], sizes[n]) for n in (layer - 1, layer))
    return RBM(visible, hidden)


def new_rbms(n_visible: int, config: Pretraining) -> list[RBM]:
    """The RBMs of all layers, as `new_rbm`."""
    return [new_rbm(n_visible, layer, config) for layer in range(1, len(config.hidden) + 1)]
