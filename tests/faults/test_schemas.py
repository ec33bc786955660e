"""Files with a right checksum and wrong content: refused in one sentence that names file and field, or usable."""

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from schemas import tensor_file, wrong_data, wrong_tensors
from tiny import comparison, pictures, splits
from torch import Tensor, nn

import dbn
from dbn.columns import Column
from dbn.config.common import DataConfig, to_dict
from dbn.config.finetuning import Finetuning
from dbn.config.pretraining import PretrainConfig, Pretraining
from dbn.data.readers import read_table
from dbn.errors import InputError
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.fits import FitKey
from dbn.finetuning.loading import make_problem
from dbn.finetuning.report import comparison_text
from dbn.models import DBN, RBM, Scaling
from dbn.models.label_model import LabelModel, label_rbm
from dbn.models.mlp import mlp
from dbn.models.units.naming import make_units
from dbn.plotting.images import as_images, filters, tile
from dbn.report.comparison import _by_class, _by_rate, _diverged
from dbn.report.evaluation import evaluation_section
from dbn.report.page import Page, render
from dbn.report.pretraining import _curves, _learned
from dbn.report.source import Source
from dbn.report.write import _all_numbers, _asked
from dbn.runs.asked import kind_of
from dbn.runs.classifier import Classifier, best_classifier, read_classifier
from dbn.runs.folder import RunFolder, _finite
from dbn.runs.formats import LAYER_RECORD
from dbn.runs.label_model import load_label_model
from dbn.runs.resume import begin, started_with
from dbn.runs.training_data import splits_of
from dbn.runs.weights import load
from dbn.storage.tensors import read_tensors, tensor_bytes
from dbn.tasks import TASKS

WIDTH, ROWS = 6, 4


class Format(NamedTuple):
    """A kind of file: a sound one, how it is read, and what is done with what was read."""

    tensors: Mapping[str, Tensor]
    description: Mapping[str, Any]
    read: Callable[[Path], Any]
    use: Callable[[Any], object]


def filled(module: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.1, generator=generator)
    return module.requires_grad_(False).eval()


TABLE = (Column("gaussian"), Column("bernoulli", ("no", "yes")), Column("categorical", ("a", "b", "c")))
MIXED = "1 gaussian + 1 bernoulli + 3 categorical(states=3)"
NUMBERS = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(1))
STANDARD = Scaling.fitted(NUMBERS, 1.0, standardized=True, columns=[f"c{n}" for n in range(WIDTH)])
STACKS: dict[str, tuple[str, str, Scaling]] = {
    "bernoulli": ("bernoulli", "bernoulli", Scaling(255.0, stored="bytes", values=(0.0, 1.0))),
    "gaussian": ("gaussian", "relu", STANDARD),
    "drelu": ("drelu", "drelu", Scaling(1.0, stored="floats", values=(-2.0, 3.0))),
    "counts": ("binomial(trials=4)", "spin", Scaling(1.0, stored="floats", limits=(0.0, 4.0), values=(0.0, 3.0))),
    "categorical": ("categorical(states=3)", "binomial(trials=3)", Scaling(1.0, codes=3)),
    "mixed": (MIXED, "bernoulli", Scaling(1.0, table=TABLE, columns=["a", "b", "c"], missing="absent",
              limits=((-math.inf, math.inf), (0.0, 1.0), (-math.inf, math.inf)))),
}  # fmt: skip


def stack_file(visible: str, hidden: str, scaling: Scaling) -> Format:
    size = 5 if "+" in visible else WIDTH
    shape = (1, 2, 3) if scaling.codes is None else None
    rbms = [
        RBM(make_units(visible, size), make_units(hidden, 3)),
        RBM(make_units(hidden, 3), make_units("bernoulli", 2)),
    ]
    made = filled(DBN(rbms, scaling, shape))
    return Format(made.state_dict(), made.description(), load, use_stack)


def rows_for(scaling: Scaling, width: int) -> Any:
    """Rows as they are stored; cells of a table by name."""
    if scaling.table:
        return np.array([[0.5, "no", "a"], [1.5, "yes", "c"]] * 2, object)
    return torch.zeros(ROWS, width, dtype=torch.uint8 if scaling.stored == "bytes" else torch.float32)


@torch.no_grad()
def use_stack(stack: DBN) -> None:
    """What sample, features, evaluate, impute, finetune and report do with it."""
    x = rows_for(stack.scaling, stack.width)
    rows = stack.coded(x) if stack.scaling.table else x
    found = stack.match(rows)
    features = stack.up(found.scaling(found.rows(rows)))
    stack.down(features)
    samples = stack.sample(ROWS, steps=2)
    if stack.image_shape is not None:
        tile(as_images(samples, stack.image_shape, stack.scaling), 2)
        filters(stack.layers, stack.image_shape)
    if stack.scaling.table:
        stack.cells(samples)
    known = np.ones((ROWS, stack.width), bool)
    known[0, 0] = False
    stack.impute(x, known, steps=3, discard=1)
    repr(stack), stack.encoder(), stack.to_mlp(2)
    if not stack.scaling.table:
        dbn.evaluate(stack, x, ais=3, chains=2)


def label_file(*, below: bool, untied: bool = False) -> Format:
    rbm = label_rbm("bernoulli", 3 if below else WIDTH, make_units("bernoulli", 2), 3)
    lower, down = (
        [RBM(make_units("gaussian", WIDTH), make_units("bernoulli", 3))] if there else [] for there in (below, untied)
    )
    scaling = STANDARD if below else Scaling(255.0, stored="bytes")
    model = filled(
        LabelModel(rbm, ["a", "b", "<c>"], lower, scaling, None if below else (1, 2, 3), generative_rbms=down)
    )
    return Format(model.state_dict(), model.description(), load_label_model, use_label_model)


def use_label_model(model: LabelModel) -> None:
    """What label-model, predict and report do with it."""
    x = rows_for(model.scaling, model.width)
    model.predict_proba(x), model.predict(x)
    samples = model.sample(2, label=model.classes[-1], steps=2)
    if model.image_shape:
        tile(as_images(samples, model.image_shape, model.scaling), 2)
    repr(model)


def network_file(task: str, *, normalize: bool = False) -> Format:
    made: dict[str, Any] = {"classify": {"classes": ["a", "b"]}, "multilabel": {"task": task, "targets": ["a", "b"]},
            "regress": {"task": task, "targets": ["a", "b"], "target_shift": [0.0, 1.0], "target_spread": [1.0, 2.0]},
            "autoencode": {"task": task, "targets": [f"x{n}" for n in range(WIDTH)]}}  # fmt: skip
    scaling = Scaling(255.0, stored="bytes") if normalize else STANDARD
    sizes = [WIDTH, 3, WIDTH if task == "autoencode" else 2]
    about = {"sizes": sizes, "activation": "tanh", "normalise": normalize, **made[task], **scaling.description()}
    return Format(filled(mlp(sizes, "tanh", normalize=normalize)).state_dict(), about, read_classifier, use_network)


def use_network(read: Any) -> None:
    """What predict does with it, and the library."""
    model = Classifier(*read).eval()
    x = rows_for(model.scaling, model.width)
    logits = model.predict_logits(x)
    model.predict(x), model.task.written(logits, "probabilities"), model(x), repr(model)
    assert model.task.outputs == logits.shape[1]


FILES = {
    **{f"stack, {name}": stack_file(*parts) for name, parts in STACKS.items()},
    "label model": label_file(below=False),
    "label model of features": label_file(below=True),
    "label model, untied": label_file(below=True, untied=True),
    **{f"network, {task}": network_file(task, normalize=task == "multilabel") for task in TASKS},
}


def some(made: Iterable[tuple[str, Any]], most: int) -> list[tuple[str, Any]]:
    """At most so many of the cases, the same ones every time."""
    found = list(made)
    return found if len(found) <= most else random.Random(0).sample(found, most)


def cases(form: Format) -> Iterator[tuple[str, Callable[[], bytes]]]:
    description = json.loads(json.dumps(form.description))
    for name, changed in wrong_data(description):
        yield name, partial(tensor_file, form.tensors, changed)
    for name, tensors in wrong_tensors(form.tensors):
        yield name, partial(tensor_file, tensors, description)


class RunFile(NamedTuple):
    """A file of plain data in a run folder: its name, what one holds, and what is done with the folder."""

    name: str
    data: Any
    use: Callable[[RunFolder], object]


ARMS = comparison({"dbn": [1.0, 2.5], "he_normal:relu": [1.5, 2.0]}) | {
    "test_examples": 40, "idle_layers": [1], "classes": ["<b>", "c"], "support": [20, 20],
    "comparison": {"best": "dbn", "next": "he_normal:relu", "difference": 0.0, "p": 0.9},
    "dbn_against": {"best other arm": {"dbn": "dbn", "other": "he_normal:relu", "difference": 0.0, "p": None}},
}  # fmt: skip
for each in ARMS["arms"].values():
    each |= {"test_balanced_error": [1.0, 1.0], "test_log_loss": [0.1, None], "one_class": 0}
    each |= {"recall": [50.0, None], "precision": [None, 1.0], "confusion": [[20, 0], [1, 19]]}
FIT_LINE = {"arm": "dbn", "learning_rate": 0.1, "seed": 0, "stage": "tune", "epoch": 1, "train_loss": 0.5,
            "valid_error": 2.0, "valid_loss": None, "seconds": 0.1}  # fmt: skip
LAYER_LINE = {"layer": 1, "epoch": 1, "kl": 0.5, "valid_kl": None, "seconds": 0.1}


def use_comparison(run: RunFolder) -> None:
    """What report and predict do with it."""
    found = run.read_json("result.json")
    with contextlib.suppress(InputError):  # there is no classifier
        best_classifier(run)
    if "arms" in found:
        comparison_text(found), _by_class(found), _diverged(found)
    render(Page("a", [], [*evaluation_section(found), *_all_numbers(Source(run, {}))]))


def use_fits(run: RunFolder) -> None:
    source = Source(run, {"init": ["dbn"]})
    _by_rate(source, TASKS["classify"])
    assert all(record["epoch"] > 0 for record in source.metrics)


def use_layers(run: RunFolder) -> None:
    source = Source(run, {})
    render(Page("a", [*_learned(source.metrics)], [next(_curves(source.metrics))]))
    run.keep_metrics(lambda record: (record["layer"], record["epoch"]) <= (1, 1), LAYER_RECORD)


def use_options(run: RunFolder) -> None:
    source = Source(run, run.read_config())
    kind_of(run, source.options)
    render(Page(source.name, [], _asked("pretrain", source)))
    with contextlib.suppress(InputError):
        splits_of(run.path)
    with contextlib.suppress(InputError):
        started_with(run.path, Pretraining())


def evaluation() -> dict[str, Any]:
    made = filled(DBN([RBM(make_units("bernoulli", n), make_units("bernoulli", 3)) for n in (WIDTH, 3)]))
    found: dict[str, Any] = _finite(dbn.evaluate(made, torch.zeros(ROWS, WIDTH), ais=3, chains=2).to_dict())
    return found


RUN_FILES: dict[str, Callable[[], RunFile]] = {
    "comparison": lambda: RunFile("result.json", ARMS, use_comparison),
    "evaluation": lambda: RunFile("result.json", evaluation(), use_comparison),
    "metrics of fits": lambda: RunFile("metrics.jsonl", FIT_LINE, use_fits),
    "metrics of layers": lambda: RunFile("metrics.jsonl", LAYER_LINE, use_layers),
    "versions": lambda: RunFile(
        "versions.json", {"format": 2, "data": None, "dbn": "1", "git_commit": None}, use_options
    ),
    "options": lambda: RunFile(
        "config.yaml", to_dict(PretrainConfig(run=Path("a"), data=DataConfig(dataset="x.npz"))), use_options
    ),
}


@pytest.mark.parametrize("most", [25, pytest.param(10**6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUN_FILES)
def test_plain_data_of_the_wrong_kind_are_refused_or_can_be_used(name: str, most: int, tmp_path: Path) -> None:
    form, run = RUN_FILES[name](), RunFolder(tmp_path)
    (tmp_path / "config.yaml").write_text("estimator: cd\nrun: a\n")
    path = tmp_path / form.name
    path.write_text(written(form))
    form.use(run)
    refused, failures = 0, []
    for case, changed in some(wrong_data(json.loads(json.dumps(form.data))), most):
        path.write_text(written(form._replace(data=changed)), errors="surrogatepass")
        try:
            form.use(run)
        except InputError as error:
            refused += 1
            if "\n" in str(error) or form.name not in str(error):
                failures.append(f"{case}: {str(error)[:300]}")
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)
    assert refused


def written(form: RunFile) -> str:
    """JSON is YAML."""
    return json.dumps(form.data, indent=None if form.name.endswith("l") else 1) + "\n"


def changed_states(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A state with each of its fields and tensors changed."""
    tensors, description = read_tensors(path)
    for name, state in wrong_data(description["state"]):
        yield name, partial(tensor_file, tensors, {"state": state})
    for name, others in wrong_tensors(tensors):
        yield name, partial(tensor_file, others, description)


def refuses_or_goes_on(path: Path, most: int, go_on: Callable[[], object]) -> None:
    refused, failures = 0, []
    for case, content in some(changed_states(path), most):
        path.write_bytes(content())
        try:
            go_on()
        except InputError as error:
            refused += 1
            if "\n" in str(error):
                failures.append(f"{case}: {str(error)[:300]}")
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error}")
    assert not failures, "\n".join(failures)
    assert refused


@pytest.mark.parametrize("most", [12, pytest.param(10**6, marks=pytest.mark.slow)])
def test_a_finished_fit_of_the_wrong_kind_is_refused_or_used(most: int, tmp_path: Path) -> None:
    config = Finetuning(init=("he_normal",), labels=12, valid_labels=9, seeds=1, epochs=2, learning_rate=(0.1,))
    problem = make_problem(splits(), [], (3,), config, torch.device("cpu"))
    with begin(tmp_path / "run", to_dict(config), resume=False, overwrite=False) as run:
        comparison = Comparison(problem, run)
        comparison.train()
        (path,) = (run.path / "checkpoint").glob("*-tune.safetensors")
        (arm,) = comparison.fits.arms.values()
        key = FitKey(arm.name, 0.1, problem.seeds[0], "tune")

        def use() -> None:
            found = comparison.fits._finished(key)
            assert found is not None
            assert math.isfinite(found.seconds)
            assert isinstance(found.valid_error, int | float)
            problem.network_with(arm, found.weights)

        refuses_or_goes_on(path, most, use)


@pytest.mark.parametrize("most", [8, pytest.param(10**6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("visible", ["bernoulli", "binomial(trials=255)"])
def test_a_checkpoint_of_the_wrong_kind_is_refused_or_gone_on_from(visible: str, most: int, tmp_path: Path) -> None:
    divisor = {"divisor": 1} if "binomial" in visible else {}
    options: dict[str, Any] = {"hidden": [3], "estimator": "pcd", "visible": visible, "average": 0.9, "batch_size": 20}
    with contextlib.suppress(KeyboardInterrupt):
        dbn.pretrain(pictures(40)[0], epochs=3, run=tmp_path / "run", callback=stop, **options, **divisor)
    kept = (tmp_path / "run" / "metrics.jsonl").read_bytes()

    def go_on() -> None:
        (tmp_path / "run" / "metrics.jsonl").write_bytes(kept)
        (tmp_path / "run" / "dbn.safetensors").unlink(missing_ok=True)
        dbn.pretrain(pictures(40)[0], epochs=3, run=tmp_path / "run", resume=True, **options, **divisor)

    refuses_or_goes_on(tmp_path / "run" / "checkpoint" / "state.safetensors", most, go_on)


def stop(record: Mapping[str, Any]) -> None:
    if record["epoch"] == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
@pytest.mark.parametrize("order", "<>")
def test_strings_of_no_characters_are_refused(code: int, order: str, tmp_path: Path) -> None:
    y = np.array(["a", "b"] * 10, f"{order}U1").reshape(2, 10).T  # in Fortran's order
    np.asarray(y.T).view(f"{order}u4")[1, 3] = code
    np.savez(tmp_path / "a.npz", x=np.eye(20, dtype=np.uint8), y=y[:, 0], unused=y)
    np.savez(tmp_path / "b.npz", x=np.eye(20, dtype=np.uint8), y=np.ascontiguousarray(y.T)[1])
    read_table(tmp_path / "a.npz")
    with pytest.raises(InputError, match="text holds numbers that are no characters"):
        read_table(tmp_path / "b.npz")
    with pytest.raises(InputError, match="text holds numbers that are no characters"):
        dbn.compare(np.eye(10), y[:, 1], init="he_normal", hidden=[2])
    with pytest.raises(InputError, match="text holds numbers that are no characters"):
        dbn.pretrain(y, visible="auto", hidden=[2])


@pytest.mark.parametrize("most", [20, pytest.param(10**6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_model_of_the_wrong_kind_is_refused_or_can_be_used(name: str, most: int, tmp_path: Path) -> None:
    form, path = FILES[name], tmp_path / "a.safetensors"
    path.write_bytes(tensor_bytes(form.tensors, form.description))
    form.use(form.read(path))
    refused = used = 0
    failures = []
    for case, content in some(cases(form), most):
        path.write_bytes(content())
        try:
            read = form.read(path)
        except InputError as error:
            refused += 1
            if "\n" in str(error) or str(path) not in str(error) or len(str(error)) > 400:
                failures.append(f"{case}: {str(error)[:300]}")
            continue
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error} in reading")
            continue
        try:
            with contextlib.suppress(InputError):
                form.use(read)
            used += 1
        except Exception as error:
            failures.append(f"{case}: {type(error).__name__} {error} in use")
    assert not failures, "\n".join(failures)
    assert refused > used
