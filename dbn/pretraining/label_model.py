"""Training of a label model: rows and labels learned together, by themselves or on top of a stack."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from dbn.config.common import to_dict
from dbn.config.label_model import LabelTraining, rate_of_up_down
from dbn.config.validation import several
from dbn.data.checks import Array
from dbn.data.cut import splits_from_arrays
from dbn.data.examples import Examples, labels_of
from dbn.data.rows import in_memory
from dbn.data.splits import Divisor, Splits
from dbn.errors import InputError, naming_arguments
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling
from dbn.models.units.naming import make_units
from dbn.pretraining.label_trainer import LabelTrainer
from dbn.pretraining.layer_data import ROWS_AT_ONCE, Unlabeled
from dbn.pretraining.layer_run import train_layer
from dbn.pretraining.options import PretrainingOptions
from dbn.pretraining.penalties import penalties
from dbn.pretraining.pretrain import checked_arguments, for_table, unlabeled, weights_on
from dbn.pretraining.recorder import begin_logs, end_logs
from dbn.pretraining.stack import begin_pretraining, check_state
from dbn.pretraining.up_down import STAGE, Untied, UpDownTrainer
from dbn.rng import stream_seed
from dbn.runs.card import write_model_card
from dbn.runs.folder import RunFolder
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.label_model import save_label_model
from dbn.runs.resume import begin, started_with
from dbn.runs.training_data import fingerprint
from dbn.runs.weights import load
from dbn.storage.files import as_path, corrupt_file
from dbn.storage.schema import reason
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback
from dbn.training.device import matmul_dtype, pick_device

OPTIONS = [each.name for each in fields(LabelTraining)]


def train_label_model(
    x: Array,
    y: Array,
    hidden: int | None = None,
    *,
    stack: DBN | Path | str | None = None,
    gradient: Literal["hybrid", "generative", "discriminative"] = "hybrid",
    generative_weight: float | None = None,
    up_down: int = 0,
    up_down_rate: float | str | None = None,
    up_down_steps: int | str | None = None,
    no_label: str | float | None = None,
    sample_weight: Array | str | None = None,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool | None = False,
    callback: Callback | None = None,
    divisor: Divisor = None,
    **options: Unpack[PretrainingOptions],
) -> LabelModel:
    """Train one RBM whose visible units are the rows, or a stack's features of them, and softmax units of the labels.

    x, y: (N, V) or images, and labels, (N,), (N, 1) or one-hot rows; rows without a label (None, NaN, `no_label`) are
    used too. A tenth of the rows is for validation. sample_weight: as for `dbn.pretrain`.
    hidden: units of the RBM; 500 by default, and at most a quarter of the rows.
    stack: a stack, or its path, whose features take the place of the rows; it is not changed.
    gradient: of −log p(y | x), "discriminative"; of −log p(x, y), "generative", where rows without a label add −log
    p(x); "hybrid", of the first and `generative_weight` (0.01 by default) times the second.
    up_down: epochs of up-down fine-tuning of the whole stack, after those of the top RBM. Its layers then have weights
    of their own upwards and downwards. up_down_rate, "0.1:0" by default and "0.01:0" with Gaussian units, and
    up_down_steps, the Gibbs steps of the top RBM, "3:10" by default: numbers or schedules.
    run, resume, overwrite, device, progress, callback, divisor: as for `dbn.pretrain`.
    options: the fields of `dbn.config.Pretraining`.

    The `history` of the result has valid_error (%) and valid_log_loss (nats) of every measured epoch. InputError for
    data, labels or options that cannot be used, and as for `dbn.pretrain`.

    >>> import torch
    >>> x = torch.rand(100, 8, generator=torch.Generator().manual_seed(0))
    >>> model = train_label_model(x, x[:, 0] > 0.5, hidden=10, epochs=2, batch_size=10)
    >>> model.predict_proba(x).shape, model.sample(4, label="True", steps=5).shape
    (torch.Size([100, 2]), torch.Size([4, 8]))
    """
    begun: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "callback": callback}
    given = checked_arguments(train_label_model, options, OPTIONS, run, **begun)
    with naming_arguments():
        layers: Any = hidden if hidden is None else several(hidden)
        of_up_down: Any = {"up_down": up_down, "up_down_rate": up_down_rate, "up_down_steps": up_down_steps}
        of_loss: Any = {"gradient": gradient, "generative_weight": generative_weight}
        config = LabelTraining(hidden=layers, **of_loss, **of_up_down, **given)
        below = stack if stack is None or isinstance(stack, DBN) else load(stack)
        of_columns = config.kinds if below is None else below.scaling.kinds
        splits = splits_from_arrays(
            x, y, divisor=divisor, unlabeled=no_label, kinds=of_columns, sample_weight=sample_weight
        )
        config = started_with(as_path(run), config) if resume and run is not None else config
        place = pick_device(device)
        labeled = LabeledRows.of(splits, config, place, below)
        about = to_dict(labeled.config) | ({} if divisor is None else {"divisor": splits.divisor})
        with nullcontext() if run is None else begin_labels(as_path(run), labeled, about, resume, overwrite) as folder:
            return labeled.train(folder, progress=progress, callback=callback)


def begin_labels(
    path: Path, labeled: "LabeledRows", options: Mapping[str, Any], resume: bool, overwrite: bool
) -> RunFolder:
    """The run folder, new or resumed; see `dbn.runs.resume.begin`."""
    config, data = labeled.config, labeled.fingerprint
    begun: dict[str, Any] = {"resume": resume, "overwrite": overwrite}
    if config.up_down:

        def added(before: Mapping[str, Any]) -> tuple[str, ...]:
            return () if "up_down" in before else ("up_down", "up_down_rate", "up_down_steps")

        return begin(path, options, data=data, harmless=added, **begun)
    return begin_pretraining(path, config, options, data, **begun)


class LabeledRows:
    """Rows of features and one-hot labels on the training device, and all that the trained model keeps of them."""

    def __init__(
        self,
        data: Unlabeled,
        config: LabelTraining,
        fingerprint: str,
        about: Mapping[str, Any],
        below: Unlabeled | None = None,
    ) -> None:
        """below: for up-down fine-tuning, the same with scaled rows in place of features."""
        self.data, self.config, self.fingerprint, self.about, self.below = data, config, fingerprint, about, below
        self.n_classes = len(about["classes"])

    @classmethod
    def of(cls, splits: Splits, config: LabelTraining, device: torch.device, stack: DBN | None = None) -> "LabeledRows":
        """InputError for data without labels, for values that the visible units or the stack cannot take, and for
        several processes."""
        if splits.label_error or not splits.classes:
            raise InputError(f"{splits.name}: {splits.label_error or 'there are no labels: add y, or --label-column'}")
        if distributed.size() > 1:
            raise InputError("a label model is trained by one process: start it without torchrun")
        if config.up_down and stack is None:
            raise InputError("--up-down needs the layers below the top RBM: name their run with --pretrained")
        if stack is None:
            found = for_table(config, splits)
            config = replace(config, visible=found.visible, column_kinds=found.column_kinds)
        elif config.up_down and not config.up_down_rate:  # the slowest units of the whole stack set it
            kinds = [rbm.visible.spec for rbm in stack.layers] + [stack.layers[-1].hidden.spec, config.unit_kinds[1]]
            config = replace(config, up_down_rate=rate_of_up_down(config.optimizer, kinds))
        config = config.for_data(*splits.train.x.shape)
        if stack is None:
            data, below = unlabeled(splits, config, device), []
            scaling, kept, shape = data.scaling, data.scaling, data.image_shape
            parts = {"train": in_memory(data.train), "valid": data.valid}
        else:
            if config.binarize != "none":
                raise InputError("--binarize does not go with --pretrained, whose stack has its own data: leave it out")
            stack = copy.deepcopy(stack).requires_grad_(False).to(device)
            below, kept, shape = stack.layers, stack.scaling, stack.image_shape
            config = replace(config, visible=stack.layers[-1].hidden.spec)
            matmul_dtype(config.precision, device)
            penalties(config)
            divisor = splits.divisor if splits.divisor_given else None
            known: dict[str, Any] = {"divisor": divisor, "columns": splits.columns, "table": splits.table}
            match = stack.match(
                splits.train.x, splits.name, **known, where=partial(splits.train.where, name=splits.name)
            )
            if splits.valid:
                where = partial(splits.valid.where, name=splits.name)
                stack.match(splits.valid.x, splits.name, **known | {"divisor": match.scaling.divisor}, where=where)
            splits, scaling = splits.with_columns(match.order), match.scaling.to(device)
            parts = {"train": splits.train.tensor.to(device), "valid": splits.valid.tensor.to(device)}
        weights, of_valid = weights_on(splits, device)

        def made(layers: list[RBM]) -> Unlabeled:
            """Rows as these layers bring them up, and labels; of validation those that have one."""
            found = {
                name: _with_labels(x, getattr(splits, name), scaling, layers, splits.n_classes)
                for name, x in parts.items()
                if x is not None
            }
            has_label = found["valid"][:, -splits.n_classes :].any(1)
            valid = found["valid"][has_label] if has_label.any() else None
            own = None if of_valid is None else of_valid[has_label]
            return Unlabeled(found["train"], valid, Scaling(1.0).to(device), weights=weights, valid_weights=own)

        about = {"classes": splits.classes, "below": below, "scaling": kept, "image_shape": shape}
        rows = made([]) if config.up_down else None
        return cls(made(below), config, fingerprint(splits, [] if stack is None else [stack]), about, rows)

    def new_rbm(self) -> RBM:
        """The RBM with parameters 0."""
        config, (_, columns) = self.config, self.data.train.shape
        with self.data.train.device:  # whatever the default device is
            hidden = make_units(config.unit_kinds[1], config.hidden[0])
            return label_rbm(config.visible, columns - self.n_classes, hidden, self.n_classes)

    def train(
        self, run: RunFolder | None, *, progress: bool | None = False, callback: Callback | None = None
    ) -> LabelModel:
        """Train the model, or resume the run in a folder, and write it there. InputError when it diverges, and for a
        checkpoint that is missing or of another run."""
        state = run.load_checkpoint(self.data.train.device) if run else None
        if run:
            check_state(run, state, STAGE if self.below else 1)
            begin_logs(run, self.config, *((0, 0) if state is None else (state["layer"], state["epoch"])))
        history: list[dict[str, Any]] = []

        def report(record: dict[str, Any]) -> None:
            history.append(record)
            if callback:
                callback(dict(record))

        rbm = self.new_rbm()
        # Streams of its own: with the seed of the stack's first layer it would start from the same weights.
        config = replace(self.config, seed=stream_seed(self.config.seed, "label model") % 2**31)
        layer = 1 if state is None else state["layer"]
        about = dict(self.about)

        def train(trainer: LabelTrainer) -> None:
            if run and state is not None and layer == trainer.layer:
                try:
                    trainer.load_state(state)
                except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                    raise corrupt_file(run.checkpoint.path, f"it is not of this run{reason(error)}") from error
            train_layer(trainer, run, progress=progress, callback=report)

        if layer == 1:
            train(LabelTrainer(rbm, self.data, config, self.n_classes))
        if self.below is not None:
            untied = Untied(self.about["below"])
            train(UpDownTrainer(rbm, untied, self.below, config, self.n_classes))
            about |= {"below": untied.recognition, "generative_rbms": untied.generative}
        model = LabelModel(rbm, **about, generative=self.config.weights[1] > 0).requires_grad_(False).eval()
        model.zero_grad()
        model.history = run.metrics(LAYER_RECORD) if run else history
        if run:
            end_logs(run, self.config, self.data)
            write_model_card(run, model, self.data.train, self.data.valid)
            save_label_model(run.path, model)
        return model


@torch.no_grad()
def _with_labels(x: Tensor, examples: Examples, scaling: Scaling, below: list[RBM], n_classes: int) -> Tensor:
    """Features and one-hot labels, (N, F + C) float32; 0 for rows without a label."""
    y = labels_of(examples).to(x.device)
    parts = []
    for rows, labels in zip(x.split(ROWS_AT_ONCE), y.split(ROWS_AT_ONCE), strict=True):
        h: Tensor = scaling(rows)
        for rbm in below:
            h = rbm.up(h)
        one_hot = F.one_hot(labels + 1, n_classes + 1)[:, 1:]
        parts.append(torch.cat([h, one_hot.to(h)], 1))
    return torch.cat(parts)
