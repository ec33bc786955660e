"""The checkpoint of an evaluation, in a folder beside its result: the chains of AIS, and how far they are."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dbn.config.common import to_dict
from dbn.config.evaluation import EvaluateConfig
from dbn.data.rows import pieces
from dbn.errors import InputError, parsing
from dbn.evaluation.examples import EvaluationData
from dbn.likelihood.annealed_chains import Keep
from dbn.models.dbn import DBN
from dbn.runs.checkpoint import Checkpoint
from dbn.runs.folder import RunFolder, remove_partial_writes
from dbn.runs.lock import LOCK, acquire, release
from dbn.runs.resume import differing
from dbn.storage.files import check_writable, corrupt_file, make_folder
from dbn.storage.owned import check_owned
from dbn.storage.tensors import check_bounded, check_structure
from dbn.training.checkpoint_control import CheckpointControl, checkpoint_control

CHECKPOINT_SECONDS = 30.0
"""Between two checkpoints."""
DECISIVE = ("exact", "ais", "chains", "reverse", "seed")
"""Options that the chains depend on, beside the model and the examples."""


@final
class EvaluationCheckpoint:
    """The chains of an evaluation by run of AIS, saved every `CHECKPOINT_SECONDS` and when a signal arrives."""

    def __init__(self, result: Path, about: Mapping[str, Any], runs: Mapping[str, Any]) -> None:
        """about: what must be the same for the evaluation to be resumed. runs: of the last checkpoint."""
        self.result, self.about, self._before = result, dict(about), dict(runs)
        self.file = Checkpoint(folder_of(result) / "state.safetensors")
        self._now: dict[str, Callable[[], dict[str, Any]]] = {}
        self._control: CheckpointControl | None = None

    @contextmanager
    def saving(self) -> Iterator[None]:
        """In this context the chains move; a signal raises `Stopped` after a checkpoint."""
        with self.file, checkpoint_control(self._save, CHECKPOINT_SECONDS) as self._control:
            yield
            self._save()

    def _save(self) -> None:
        self.file.save({"about": self.about, "runs": self._before | {name: now() for name, now in self._now.items()}})

    def keeping(self, name: str, generator: torch.Generator) -> Keep:
        """Keeps the chains of the run of that name, and their generator."""
        return _KeptRun(self, name, generator)

    def before(self, name: str) -> Any:
        """The state of a run in the last checkpoint; None where it has none."""
        return self._before.get(name)

    def note(self, name: str, state: Callable[[], dict[str, Any]]) -> None:
        """The state of a run is what the function gives when it is called."""
        self._now[name] = state

    def after_step(self) -> None:
        """Save if it is due."""
        if self._control is not None:
            self._control.after_step(0)

    def finish(self, found: Mapping[str, Any]) -> None:
        """Write the result, and remove the checkpoint, unless its folder is not in its place any more."""
        RunFolder(self.result.parent).write_json(self.result.name, found, unfinished=self.file.path.parent)
        self.file.path.unlink(missing_ok=True)


@final
class _KeptRun(Keep):
    def __init__(self, checkpoint: EvaluationCheckpoint, name: str, generator: torch.Generator) -> None:
        self.checkpoint, self.name, self.generator = checkpoint, name, generator

    def resumed(self, start: Mapping[str, Any], steps: int) -> Mapping[str, Any]:
        wanted = self._whole(start)
        found = self.checkpoint.before(self.name)
        if found is None:
            found = wanted
        with parsing(corrupt_file(self.checkpoint.file.path, "it is not of this evaluation")):
            check_structure(found, wanted)
            check_bounded(found, "the chains")
            if not 0 <= found["step"] <= steps:
                raise ValueError("a step that the run does not have")
            self.generator.set_state(found["generator"])
        found = {
            key: each.to(start[key].device) if key in start and isinstance(each, Tensor) else each
            for key, each in found.items()
        }
        self.checkpoint.note(self.name, lambda: found)
        return found

    def after_step(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self.checkpoint.note(self.name, lambda: self._whole(state()))
        self.checkpoint.after_step()

    def _whole(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {**state, "generator": self.generator.get_state()}


@contextmanager
def evaluation_checkpoint(
    stack: DBN, data: EvaluationData, config: EvaluateConfig, device: torch.device
) -> Iterator[EvaluationCheckpoint | None]:
    """The checkpoint of the evaluation that `config` asks for, locked against other processes; None without a file.

    InputError where there is one already, unless it is to be resumed and of the same options, model and examples.
    """
    result = config.result
    if result is None:
        if config.resume:
            raise InputError(f"--resume needs the file of the result, and {config.run} has no folder: name --output")
        yield None
        return
    check_writable(result)  # before the long work
    folder = make_folder(folder_of(result))
    acquire(folder, "--output")
    kept = EvaluationCheckpoint(result, {}, {})
    try:
        remove_partial_writes(folder)
        about = {name: value for name, value in to_dict(config).items() if name in DECISIVE}
        about |= {"device": device.type, "fingerprint": fingerprint(stack, data)}
        yield EvaluationCheckpoint(result, about, _before(kept.file, about, resume=config.resume))
    finally:
        with contextlib.suppress(OSError, InputError):  # not a folder of ours any more
            check_owned(folder)
            if not kept.file.path.exists():
                (folder / LOCK).unlink()
                folder.rmdir()
        release(folder)


def folder_of(result: Path) -> Path:
    """Of the checkpoint of an evaluation."""
    return result.with_name(f"{result.name}.checkpoint")


def _before(file: Checkpoint, about: Mapping[str, Any], *, resume: bool) -> Mapping[str, Any]:
    """The runs of the last checkpoint, empty where there is none."""
    folder = file.path.parent
    if not resume and file.path.exists():
        raise InputError(
            f"{folder} holds an interrupted evaluation: continue it with --resume, or remove it to start again"
        )
    state = file.load() or {"about": about, "runs": {}}
    with parsing(corrupt_file(file.path, "it is not of an evaluation")):
        before, runs = dict(state["about"]), dict(state["runs"])
    advice = "resume it with the same, or remove it to start again"
    if before.pop("fingerprint", None) != about["fingerprint"]:
        raise InputError(f"{folder} is of another model or other examples: {advice}")
    if options := differing(before, {name: about[name] for name in about if name != "fingerprint"}):
        raise InputError(f"{folder} is of an evaluation with {', '.join(options)}: {advice}")
    return runs


def fingerprint(stack: DBN, data: EvaluationData) -> str:
    """A hash of the model and the examples."""
    about = [stack.description(), data.scaling.description()]
    digest = blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8)
    weights = {f"weights of {part}": each for part, each in data.weights.items()}
    for name, values in {**stack.state_dict(), **data.parts, **weights}.items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        for piece in pieces(values.reshape(-1) if isinstance(values, Tensor) else values):
            digest.update(piece.cpu().contiguous().numpy().data)
    return digest.hexdigest()
