"""The comparison as a function: `dbn.compare`."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, final

from dbn.config.common import to_dict
from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.config.validation import several
from dbn.data.checks import Array
from dbn.data.cut import Split, splits_from_arrays
from dbn.data.splits import Divisor
from dbn.errors import InputError, naming_arguments
from dbn.finetuning.card import write_comparison_card
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.loading import kinds_of, make_problem
from dbn.finetuning.problem import Problem
from dbn.finetuning.recorder import begin_logs, end_logs
from dbn.finetuning.report import comparison_text, finished
from dbn.finetuning.results import TunedArm
from dbn.finetuning.summary import result
from dbn.models.dbn import DBN
from dbn.registry import check_options, suggestion
from dbn.runs.classifier import Classifier, best_classifier, classifier_of, read_classifier
from dbn.runs.folder import RESULT, RunFolder
from dbn.runs.resume import begin, split_of, started_with
from dbn.runs.weights import load
from dbn.storage.files import as_path
from dbn.tasks import TASKS
from dbn.training import distributed
from dbn.training.checkpoint_control import Callback, check_callback
from dbn.training.device import pick_device


class FinetuningOptions(TypedDict, total=False):
    """The fields of `dbn.config.Finetuning` that `compare` has no argument for."""

    task: str
    output_init: str
    labels_per_class: int | None
    pseudo_labels: int | str | None
    pseudo_confidence: float
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
    standardize: bool
    together: int | Literal["auto"]
    refit: bool
    signals: int | list[int] | tuple[int, ...] | None


@final
@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult:
    """Results of a comparison; `table()` for the reader, `to_dict()` for every number."""

    found: dict[str, Any]
    _best: Callable[[str | None], Classifier]

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """By name: test_error (one per seed), mean, ci95, …: see `dbn.finetuning.summary.result`."""
        return self.to_dict()["arms"]  # type: ignore[no-any-return]

    def table(self) -> str:
        """Heading, one line per arm with the best first, and sentences: what is doubtful, and who is separated."""
        return comparison_text(self.found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as result.json of torch-dbn finetune holds it."""
        return copy.deepcopy(self.found)

    def best(self, init: str | None = None) -> Classifier:
        """The classifier of the arm and seed with the lowest validation errors, or of the arm `init`.

        A module with `classes`, which takes rows as they are stored; `predict_proba` gives class probabilities, (N, C).
        InputError for an arm that is not there.
        """
        return self._best(init)

    def __repr__(self) -> str:
        return self.table()


def compare(
    x: Array,
    y: Array,
    init: Sequence[str] = ("dbn", "xavier_uniform", "he_normal"),
    *,
    hidden: int | Sequence[int] | None = None,
    pretrained: DBN | Path | str | Sequence[DBN | Path | str] = (),
    labels: int | None = None,
    unlabeled: str | float | None = None,
    split: Split | None = None,
    seeds: int = 5,
    x_test: Array | None = None,
    y_test: Array | None = None,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool | None = False,
    callback: Callback | None = None,
    divisor: Divisor = None,
    **options: Unpack[FinetuningOptions],
) -> ComparisonResult:
    """Train a classifier from several initializations under equal conditions, and test each.

    Every arm has the same network, labels, order of examples, output layer, learning rates and epochs. Learning rate
    and epoch are selected by validation error; the test set is used once, at the end.

    x, y: (N, V) or images, and labels, (N,), (N, 1) or one-hot rows, or targets as `task` takes them; a tenth of the
    rows is for validation, and without `x_test` and `y_test` a fifth for testing.
    init: the arms, NAME, NAME:ACTIVATION or NAME(PARAMETER=VALUE):ACTIVATION; names are those of
    `dbn.initializers.INITIALIZERS`, and dbn.
    hidden: units of each hidden layer, where there is no `pretrained`.
    pretrained: stacks, or paths of them: one, or one per seed; they bring the hidden layers and the scaling of x.
    labels: labeled training examples, in the proportions of the classes; all by default. labels_per_class: as many of
    every class instead.
    unlabeled: the label of rows without one, beside None and NaN, which are not used here; by default -1 where it
    stands beside 0, 1, ….
    split: "balanced" cuts validation rows, and draws labels, with equal numbers of every class.
    run: a new folder for curves, checkpoints and classifiers; without it nothing is written.
    resume, overwrite: continue or replace the run in that folder.
    progress: show a bar for each arm, in a notebook too; None shows it where standard error is a terminal.
    callback: called with every record of metrics.jsonl, one per epoch; what it raises ends the run, which `resume`
    continues.
    divisor: number that the values are divided by, or "max" for the greatest; by default the stacks', or else 255 for
    bytes above 127. Values outside [0, 1] need it, or standardize=True.
    task: "classify", "regress" for numbers, (N,) or (N, T), or "multilabel" for columns of 0 and 1: see `dbn.tasks`.
    options: other fields of `dbn.config.Finetuning`, such as epochs=50, learning_rate=[0.1, 0.01]; the number of
    labels decides on those left out, as `dbn.config.defaults` says.

    >>> import torch
    >>> x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    >>> options = {"epochs": 20, "batch_size": 10, "learning_rate": 0.1}
    >>> found = compare(x, x[:, 0] > 0.5, ["he_normal", "zeros"], hidden=[8], seeds=2, **options)
    >>> found.table().splitlines()[-1].split(":")[0]
    'he_normal alone has learned'
    >>> found.best().predict_proba(x).shape, found.best().classes
    (torch.Size([60, 2]), ('False', 'True'))

    Raises:
        InputError: arrays, options or stacks that cannot be used or do not fit each other, or a folder that holds
            something else.
    """
    if run is None and (resume or overwrite):
        raise InputError(f"{'resume' if resume else 'overwrite'}=True needs a run folder: name it with run")
    check_callback(callback)
    stacks = [pretrained] if isinstance(pretrained, DBN) else several(pretrained)
    with naming_arguments():
        training = _training(init, labels, seeds, options)
        training = started_with(Path(run), training) if resume and run is not None else training
        # The checks of options that depend on each other.
        config = FinetuneConfig(
            run=as_path(run or "runs/none"),
            resume=resume,
            overwrite=overwrite,
            device=device,
            dataset="x",
            hidden=None if hidden is None else several(hidden),
            pretrained=tuple(
                Path(f"stack {n}") if isinstance(s, DBN) else as_path(s, "pretrained") for n, s in enumerate(stacks)
            ),
            training=training,
        )
        if resume and split is None:
            split = split_of(config.run)
        loaded = [copy.deepcopy(each) if isinstance(each, DBN) else load(each) for each in stacks]
        reading: dict[str, Any] = {
            "unlabeled": unlabeled,
            "split": split,
            "divisor": divisor,
            "kinds": kinds_of(loaded),
            "read_labels": TASKS[training.task].read,
        }
        splits = splits_from_arrays(x, y, x_test, y_test, cut_test=True, **reading)
        place = pick_device(device)
        problem = make_problem(splits, loaded, config.hidden, config.training, place, resumed=resume)
        _ = problem.test
        about = {"hidden": list(problem.hidden), "split": split, **to_dict(problem.config)}
        about |= {} if divisor is None else {"divisor": splits.divisor}
        distributed.check_alike([about, problem.fingerprint])
        with ExitStack() as until_done:
            folder = None
            if run is not None and distributed.is_main():
                begun = begin(config.run, about, resume=resume, overwrite=overwrite, data=problem.fingerprint)
                folder = until_done.enter_context(begun)
            done = distributed.broadcast_state(_done(folder) if folder is not None else None)
            if done is not None:
                classifiers = {name: classifier_of(*parts) for name, parts in done["arms"].items()}
                return ComparisonResult(done["found"], _of_arm(classifiers, done["best"]))
            comparison = Comparison(problem, folder, callback)
            if folder is not None:
                begin_logs(folder, problem)
            chosen = comparison.train(progress=progress)
            tested = comparison.test(chosen)
            found = result(problem, chosen, tested)
            if folder is not None:
                comparison.write(chosen, tested, codes=True)
                end_logs(folder, problem, tested, comparison_text(found))
                write_comparison_card(folder, problem.sizes, found)
                folder.write_json(RESULT, found)
        return ComparisonResult(found, _classifiers(problem, chosen))


def _done(folder: RunFolder) -> dict[str, Any] | None:
    """What a complete run holds, for other ranks too, which may not see its folder; None for one to be continued."""
    if finished(folder) is None:
        return None
    found = folder.read_json(RESULT)
    read = {name: read_classifier(best_classifier(folder, name)[1]) for name in found["arms"]}
    arms = {name: (network.state_dict(), about) for name, (network, about) in read.items()}
    return {"found": found, "arms": arms, "best": best_classifier(folder)[0]}


def _training(init: Sequence[str], labels: int | None, seeds: int, options: Mapping[str, Any]) -> Finetuning:
    check_options(compare, options, FinetuningOptions.__annotations__)
    return Finetuning(init=several(init), labels=labels, seeds=seeds, **options)


def _classifiers(problem: Problem, chosen: Sequence[TunedArm]) -> Callable[[str | None], Classifier]:
    """Of an arm, by default that with the least mean validation error, the seed with the least."""
    found = {}
    for each in chosen:
        errors = [fit.valid_error for fit in each.tuned]
        best = errors.index(min(errors))
        network = problem.network_with(each.arm, each.final[best].weights)
        about = problem.description(each.arm, problem.seeds[best])
        found[each.arm.name] = Classifier(network, about).to(problem.device).eval()
    return _of_arm(found, min(chosen, key=lambda each: math.fsum(fit.valid_error for fit in each.tuned)).arm.name)


def _of_arm(found: Mapping[str, Classifier], best: str) -> Callable[[str | None], Classifier]:
    def classifier(init: str | None) -> Classifier:
        if init is not None and init not in found:
            raise InputError(f"there is no arm {init!r}{suggestion(init, found)}")
        return found[init or best]

    return classifier
