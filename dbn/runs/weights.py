"""The weights of a stack as files of their own, to be loaded here and elsewhere."""

from pathlib import Path

from dbn.errors import InputError
from dbn.models.dbn import DBN
from dbn.runs.folder import CONFIG, RunFolder
from dbn.runs.model_files import STACK_FILE
from dbn.storage.files import as_path
from dbn.storage.tensors import write_tensors

STACK = "dbn.safetensors"
ENCODER = "encoder.safetensors"
LABEL_MODEL = "label_model.safetensors"


def save_stack(folder: Path, stack: DBN) -> None:
    """dbn.safetensors, the whole stack, and encoder.safetensors, the weights of `stack.encoder()` alone.

    The encoder's metadata name the modules it fits into, and its input's `Scaling`.
    """
    write_tensors(folder / STACK, stack.state_dict(), stack.description())
    encoder = stack.encoder()
    description = {"modules": [str(module) for module in encoder], **stack.scaling.description()}
    write_tensors(folder / ENCODER, encoder.state_dict(), description)


def load(path: Path | str) -> DBN:
    """The stack in a run folder or a dbn.safetensors file, on the CPU, in eval mode, and without gradients.

    InputError when there is none, or the file is damaged, describes other weights than it holds, or is too new.

    >>> import dbn, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = dbn.pretrain(torch.eye(20), hidden=[8, 4], epochs=1, run=folder + "/run")
    ...     stack = dbn.load(folder + "/run")
    >>> stack.sizes, torch.equal(stack.rbms[0].weight, trained.rbms[0].weight)
    ([20, 8, 4], True)
    """
    path = as_path(path, "path")
    file = path / STACK if path.is_dir() else path
    if not file.is_file():
        check_ended(path)
        raise InputError(f"{path} holds no stack: name a run of pretrain, whose folder has {STACK} in it, or that file")
    stack: DBN = STACK_FILE.read(file)[0]
    return stack.requires_grad_(False)


def check_ended(path: Path) -> None:
    """InputError for the folder of a run of pretrain or label-model that has no model yet."""
    before = RunFolder(path).read_config() if (path / CONFIG).is_file() else {}
    if "estimator" in before and not any((path / name).is_file() for name in (STACK, LABEL_MODEL)):
        model, command = ("label model", "label-model") if "generative_weight" in before else ("stack", "pretrain")
        raise InputError(f"{path} holds no whole {model} yet: go on with its training, {command} --resume --run {path}")
