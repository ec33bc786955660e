"""The file of a label model."""

from pathlib import Path

from dbn.errors import InputError, naming_arguments
from dbn.models.label_model import LabelModel
from dbn.runs.model_files import LABEL_FILE
from dbn.runs.weights import LABEL_MODEL, check_ended
from dbn.storage.files import as_path
from dbn.storage.tensors import write_tensors


def save_label_model(folder: Path, model: LabelModel) -> None:
    """label_model.safetensors, all layers with what their input's `Scaling` is."""
    write_tensors(folder / LABEL_MODEL, model.state_dict(), model.description())


@naming_arguments()
def load_label_model(path: Path | str) -> LabelModel:
    """The label model in a run folder or a label_model.safetensors file, on the CPU, in eval mode, without gradients.

    InputError when there is none, or its file is damaged or describes other weights than it holds.

    >>> import dbn, tempfile, torch
    >>> x = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = dbn.train_label_model(x, x[:, 0] > 0.5, hidden=4, epochs=1, run=folder + "/run")
    ...     loaded = dbn.load_label_model(folder + "/run")
    >>> loaded.classes, torch.equal(loaded.predict_proba(x), model.predict_proba(x))
    (('False', 'True'), True)
    """
    path = as_path(path, "path")
    file = path / LABEL_MODEL if path.is_dir() else path
    if not file.is_file():
        check_ended(path)
        raise InputError(
            f"{path} holds no label model: name a run of label-model, whose folder has {LABEL_MODEL} in it"
        )
    model: LabelModel = LABEL_FILE.read(file)[0]
    return model.requires_grad_(False)
