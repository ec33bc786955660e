"""What chains and fine-tuning end in, as a hash of its bytes: whether a GPU, its graphs and a resumed run agree.

Data are random and sizes are small.
"""

import json
import logging
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dbn.benchmarks.graphs import graphs
from dbn.benchmarks.ours import fit
from dbn.benchmarks.running import Setting
from dbn.config.evaluation import EvaluateConfig
from dbn.evaluation.checkpoint import evaluation_checkpoint
from dbn.evaluation.measure import evaluate_stack
from dbn.evaluation.sources import load_evaluation_data
from dbn.finetuning.compare import compare
from dbn.likelihood.ais import anneal, anneal_back, path_from_data, temperature_schedule
from dbn.models import DBN, RBM
from dbn.models.units import UNITS
from dbn.runs.weights import save_stack
from dbn.sampling import PersistentChains, TemperedChains, sample
from dbn.storage.tensors import state_bytes
from dbn.training.checkpoint_control import CheckpointControl
from dbn.training.interrupts import Stopped

Work = Callable[[torch.device, int], str]
"""Something that is done on a device under a seed, and the hash of what it ends in."""

FINETUNED: dict[str, dict[str, Any]] = {
    "sgd": {},
    "dropout, max-norm, average": {
        "input_dropout": 0.2,
        "hidden_dropout": 0.5,
        "max_norm": 1.0,
        "average": 0.9,
        "layer_rates": (0.1, 0.3, 1.0),
    },
    "adam": {"optimizer": "adam"},
    "frozen at first": {"freeze_epochs": 3},
    "bf16": {"precision": "bf16"},
}
SIZES = 60, 20
TEMPERATURES = 740
"""Steps on either side of a sum over 500 terms."""
STOPS = 12, 40
"""Steps, or replays, that a signal arrives in, counted from the start and from where that left off."""


class Agreement(NamedTuple):
    """Whether results that should have the same bytes have."""

    what: str
    same: bool
    figure: str


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """In this context what the log says of steps that are not captured."""
    found: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("dbn.capture")
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _digest(state: Any) -> str:
    return sha256(state_bytes({"state": state})).hexdigest()


def _rbm(seed: int, visible: str, sizes: tuple[int, int], device: torch.device) -> RBM:
    rbm = RBM(UNITS[visible](sizes[0]), UNITS["bernoulli"](sizes[1]))
    torch.nn.init.normal_(rbm.weight, 0.0, 0.1, generator=torch.Generator().manual_seed(seed))
    return rbm.requires_grad_(False).to(device)


def annealed(visible: str) -> Work:
    """AIS forward and back."""

    def work(device: torch.device, seed: int) -> str:
        x = torch.rand(50, SIZES[0], generator=torch.Generator().manual_seed(seed)).round().to(device)
        path, betas = path_from_data(_rbm(seed, visible, SIZES, device), x), temperature_schedule(TEMPERATURES)
        generator = torch.Generator(device).manual_seed(seed)
        return _digest([list(anneal(path, betas, 30, generator)), list(anneal_back(path, betas, x, generator))])

    return work


def sampled(make: Callable[[], Any] | None) -> Work:
    """Samples of a stack: by these chains, or by Gibbs steps from data."""

    def work(device: torch.device, seed: int) -> str:
        stack = DBN([_rbm(seed, "bernoulli", SIZES, device), _rbm(seed, "bernoulli", (SIZES[1], 10), device)])
        if make is None:
            return _digest(stack.sample(20, steps=210, start=torch.ones(20, SIZES[0]).to(device), seed=seed))
        return _digest(sample(stack, 80, chains=make(), seed=seed).rows)

    return work


CHAINS: dict[str, Work] = {
    **{f"AIS, {kind}": annealed(kind) for kind in ("bernoulli", "gaussian", "relu")},
    "Gibbs sampling": sampled(None),
    "tempered samples": sampled(lambda: TemperedChains(10, 8, 10)),
    "persistent samples": sampled(lambda: PersistentChains(10, 8)),
}


def finetuned(name: str) -> Work:
    """Eight epochs of eleven steps, the last of them shorter."""

    def work(device: torch.device, seed: int) -> str:
        setting = Setting((SIZES[0], 1), 50, 11, network=(SIZES[1], 10), device=device.type)
        made = fit(setting, seed, labels=setting.examples - 17, **FINETUNED[name])
        for _, _ in zip(range(8), made.epochs(), strict=False):
            pass
        return _digest({name: value for name, value in made.state().items() if name != "history"})

    return work


@contextmanager
def _signal_at(step: int | None) -> Iterator[None]:
    """In this context SIGTERM arrives in that step, and ends a run after its checkpoint."""
    plain, done = CheckpointControl.after_step, 0

    def after_step(self: CheckpointControl, position: int) -> None:
        nonlocal done
        done += 1
        if done == step:
            signal.raise_signal(signal.SIGTERM)
        plain(self, position)

    CheckpointControl.after_step = after_step  # type: ignore[method-assign]
    try:
        yield
    finally:
        CheckpointControl.after_step = plain  # type: ignore[method-assign]


def evaluation_resumed(device: torch.device, seed: int, folder: Path, stops: tuple[int, ...]) -> str:
    """The figures of an evaluation in a new folder that a signal ends in each of these steps of its rest."""
    lower, upper = _rbm(seed, "bernoulli", SIZES, device), _rbm(seed, "bernoulli", (SIZES[1], SIZES[0]), device)
    folder.mkdir()
    save_stack(folder, DBN([lower, upper]))
    bits = torch.rand(60, SIZES[0], generator=torch.Generator().manual_seed(seed)).round().byte()
    np.savez(folder / "bits.npz", x=bits.numpy())
    places = {"run": folder / "dbn.safetensors", "data": folder / "bits.npz", "output": folder / "result.json"}
    for number, stop in enumerate((*stops, None)):
        options: dict[str, Any] = {"ais": TEMPERATURES, "chains": 20, "seed": seed, "resume": number > 0, **places}
        config = EvaluateConfig(device=device.type, **options)
        stack = DBN([lower, upper])
        data = load_evaluation_data(stack, config).to(device)
        with (
            _signal_at(stop),
            suppress(*(() if stop is None else (Stopped,))),
            evaluation_checkpoint(stack, data, config, device) as kept,
        ):
            found = evaluate_stack(stack, data, config, progress=False, kept=kept)
            if kept is not None:
                kept.finish(found)
    result = json.loads((folder / "result.json").read_bytes())
    return json.dumps({name: value for name, value in result.items() if name != "origin"})  # which names the folder


def finetuning_resumed(device: torch.device, seed: int, folder: Path, stops: tuple[int, ...]) -> str:
    """The classifier, as a hash, of a run in a new folder that a signal ends in each of these steps of its rest."""
    x = torch.rand(900, SIZES[0], generator=torch.Generator().manual_seed(seed))
    y = (x[:, :20].sum(1) > 10).long()
    options: dict[str, Any] = {"hidden": [20, 10], "seeds": 1, "epochs": 10, "batch_size": 50, "hidden_dropout": 0.5}
    for number, stop in enumerate((*stops, None)):
        with _signal_at(stop), suppress(*(() if stop is None else (Stopped,))):
            compare(x, y, ["xavier_uniform"], **options, seed=seed, run=folder, resume=number > 0, device=device.type)
    (file,) = folder.rglob("classifier.safetensors")
    return sha256(file.read_bytes()).hexdigest()


def agreeing(device: torch.device, seed: int) -> Iterator[Agreement]:
    """Chains and fine-tuning, captured twice and once as they are."""
    tuned = {f"fine-tuning, {name}": finetuned(name) for name in FINETUNED if device.type == "cuda" or name != "bf16"}
    for name, work in (CHAINS | tuned).items():
        with _complaints() as reasons:
            found = [_with_graphs(wanted, work, device, seed) for wanted in (True, True, False)]
        figure = reasons[0] if reasons else "captured twice, eager once"
        yield Agreement(f"same bytes: {name}", len(set(found)) == 1 and not reasons, figure)


def resumed_alike(device: torch.device, seed: int) -> Iterator[Agreement]:
    """Fine-tuning and an evaluation: as they are, captured, and captured and ended twice by a signal."""
    for name, work in (("fine-tuning", finetuning_resumed), ("evaluation", evaluation_resumed)):
        with tempfile.TemporaryDirectory() as folder:
            found = {
                _with_graphs(wanted, work, device, seed, Path(folder, str(number)), stops)
                for number, (wanted, stops) in enumerate(((False, ()), (True, ()), (True, STOPS)))
            }
        yield Agreement(f"ended and resumed: {name}", len(found) == 1, "eager, captured, captured and ended twice")


def _with_graphs(wanted: bool, work: Callable[..., str], *arguments: Any) -> str:
    with graphs(wanted):
        return work(*arguments)
