"""The comparison as a function: `dbn.compare`."""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, final

from dbn.config.common import to_dict
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.data.checks import Array
from dbn.data.splits import splits_from_arrays
from dbn.errors import InputError, naming_arguments
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.problem import Problem, make_problem
from dbn.finetuning.report import comparison_text, finished, result
from dbn.finetuning.results import TunedArm
from dbn.models.dbn import DBN
from dbn.registry import suggestion
from dbn.runs.classifier import Classifier, load_classifier
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.resume import begin, started_with
from dbn.runs.weights import load
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback
from dbn.training.device import pick_device


class FinetuningOptions(TypedDict, total=False):
    """The fields of `dbn.config.Finetuning` that `compare` has no argument for."""

    valid_labels: int | None
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float | list[float] | tuple[float, ...] | None
    optimizer: str
    momentum: float | None
    schedule: str
    layer_rates: float | list[float] | tuple[float, ...]
    weight_decay: float
    max_norm: float | None
    input_dropout: float
    hidden_dropout: float
    average: float | None
    patience: int | None
    freeze_epochs: int | Literal["all"]
    precision: Literal["float32", "tf32", "bf16"]
    refit: bool
    signals: int | list[int] | tuple[int, ...] | None


@final
@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult:
    """Results of a comparison; `table()` for the reader, `to_dict()` for every number."""

    found: dict[str, Any]
    _best: Classifier

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """By name: test_error (%, one per seed), mean, ci95 (points), valid_error, learning_rate and so on."""
        return self.to_dict()["arms"]  # type: ignore[no-any-return]

    def table(self) -> str:
        """Heading, one line per arm with the best first, and whether the best is separated from the next."""
        return comparison_text(self.found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as result.json of scripts/finetune.py holds it."""
        return copy.deepcopy(self.found)

    def best(self) -> Classifier:
        """The classifier of the arm and seed with the lowest validation errors: a module with `classes`.

        It takes rows as they are stored; `predict_proba` gives class probabilities, (N, C).
        """
        return self._best

    def __repr__(self) -> str:
        return self.table()


def compare(
    x: Array,
    y: Array,
    init: Sequence[str] = ("dbn", "xavier_uniform", "he_normal"),
    *,
    hidden: Sequence[int] | None = None,
    pretrained: DBN | Path | str | Sequence[DBN | Path | str] = (),
    labels: int | None = None,
    seeds: int = 5,
    x_test: Array | None = None,
    y_test: Array | None = None,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = False,
    callback: Callback | None = None,
    **options: Unpack[FinetuningOptions],
) -> ComparisonResult:
    """Train a classifier from several initializations under equal conditions, and test each.

    Every arm has the same network, labels, order of examples, output layer, learning rates and epochs. Learning rate
    and epoch are selected by validation error; the test set is used once, at the end.

    x, y: (N, V) or images, and (N,) labels; a tenth of the rows is for validation, and without `x_test` and `y_test`
    a fifth for testing.
    init: the arms, NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE):ACTIVATION; names are those of
    `dbn.initializers.INITIALIZERS`, and dbn.
    hidden: units of each hidden layer, where there is no `pretrained`.
    pretrained: stacks, or paths of them: one, or one per seed; they bring the hidden layers and the scaling of x.
    labels: labeled training examples, balanced over classes; all by default.
    run: a new folder for curves, checkpoints and classifiers; without it nothing is written.
    resume, overwrite: continue or replace the run in that folder.
    callback: called with every record of metrics.jsonl, one per epoch; what it raises ends the run, which `resume`
    continues.
    options: other fields of `dbn.config.Finetuning`, such as epochs=50, learning_rate=[0.1, 0.01]; the number of
    labels decides on those left out, as `dbn.config.defaults` says.

    >>> import torch
    >>> x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    >>> options = {"epochs": 20, "batch_size": 10, "learning_rate": 0.1}
    >>> found = compare(x, x[:, 0] > 0.5, ["he_normal", "zeros"], hidden=[8], seeds=2, **options)
    >>> found.table().splitlines()[-1].split(":")[0]
    'he_normal is separated from the next best, zeros'
    >>> found.best().predict_proba(x).shape, found.best().classes
    (torch.Size([60, 2]), ('False', 'True'))

    Raises:
        InputError: arrays, options or stacks that cannot be used or do not fit each other, or a folder that holds
            something else.
    """
    if run is None and (resume or overwrite):
        raise InputError(f"{'resume' if resume else 'overwrite'}=True needs a run folder: name it with run")
    stacks = [pretrained] if isinstance(pretrained, DBN | Path | str) else list(pretrained)
    with naming_arguments():
        training = _training(init, labels, seeds, options)
        training = started_with(Path(run), training) if resume and run is not None else training
        # The checks of options that depend on each other.
        config = FinetuneConfig(
            run=Path(run or "runs/none"),
            resume=resume,
            overwrite=overwrite,
            device=device,
            dataset="x",
            hidden=None if hidden is None else tuple(hidden),
            pretrained=tuple(Path(f"stack {n}") if isinstance(s, DBN) else Path(s) for n, s in enumerate(stacks)),
            training=training,
        )
        splits = splits_from_arrays(x, y, x_test, y_test, cut_test=True)
        loaded = [copy.deepcopy(each) if isinstance(each, DBN) else load(each) for each in stacks]
        problem = make_problem(splits, loaded, config.hidden, config.training, pick_device(device))
        _ = problem.test
        about = {"hidden": list(problem.hidden), **to_dict(problem.config)}
        distributed.check_alike([about, problem.fingerprint])
        with ExitStack() as until_done:
            folder = None
            if run is not None and distributed.is_main():
                begun = begin(config.run, about, resume=resume, overwrite=overwrite, data=problem.fingerprint)
                folder = until_done.enter_context(begun)
            if distributed.any_rank(folder is not None and finished(folder) is not None):
                run_folder = RunFolder(config.run)
                return ComparisonResult(run_folder.read_json(RESULT), load_classifier(run_folder.path))
            comparison = Comparison(problem, folder, callback)
            chosen = comparison.train(progress=progress)
            test_errors = comparison.test(chosen)
            found = result(problem, chosen, test_errors)
            if folder is not None:
                comparison.write(chosen, test_errors)
                folder.write_json(RESULT, found)
        return ComparisonResult(found, _best(problem, chosen))


def _training(init: Sequence[str], labels: int | None, seeds: int, options: Mapping[str, Any]) -> Finetuning:
    for name in options:
        if name not in FinetuningOptions.__annotations__:
            raise InputError(f"compare has no option {name!r}{suggestion(name, FinetuningOptions.__annotations__)}")
    return Finetuning(init=(init,) if isinstance(init, str) else tuple(init), labels=labels, seeds=seeds, **options)


def _best(problem: Problem, chosen: Sequence[TunedArm]) -> Classifier:
    """Of the arm with the least mean validation error, the seed with the least."""
    arm = min(chosen, key=lambda each: math.fsum(fit.valid_error for fit in each.tuned))
    errors = [fit.valid_error for fit in arm.tuned]
    network = problem.network_with(arm.arm, arm.final[errors.index(min(errors))].weights)
    return Classifier(network, problem.description(arm.arm)).to(problem.device).eval()
