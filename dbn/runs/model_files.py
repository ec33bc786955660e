"""Files of the weights of a model, and what goes with each: its schema, the tensors that it describes, relations."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dbn.errors import InputError, is_out_of_memory
from dbn.models.dbn import DBN
from dbn.models.label_model import LabelModel
from dbn.models.mlp import meta_mlp
from dbn.models.scaling import Scaling
from dbn.runs.formats import LABELS, NETWORK, PARAMETER, STACK, TENSORS, Relation, check_relations
from dbn.storage.files import corrupt_file
from dbn.storage.schema import NUMBER, Mismatch, Rule, Schema, check, in_words
from dbn.storage.tensors import read_tensors
from dbn.tasks import TASKS, task_of


class ModelFormat(NamedTuple):
    """A file of the weights of a model: the schema of its description, what that describes, and how both go together.

    build: the model described, its parameters on the device "meta"; any error where there is none. relations: what else
    holds of the description of a file of that model. weights: the rule of numbers that have none of their own.
    """

    what: str
    fields: Schema
    layers: str
    """The field with an entry for each layer, of which there are not many more than tensors."""
    build: Callable[[dict[str, Any]], nn.Module]
    describe: Callable[[Any], dict[str, Any]] | None
    """The inverse of `build`, where there is one."""
    relations: Callable[[Any, dict[str, Any]], Iterator[Relation]]
    weights: Rule

    def read(self, file: Path) -> tuple[Any, dict[str, Any]]:
        """The model, on the CPU and in eval mode, and its description.

        InputError when the file cannot be read, is damaged, or describes what it does not hold.
        """
        tensors, description = read_tensors(file)
        try:
            check(description, self.fields)
            if (layers := len(description[self.layers])) > len(tensors) + 1:
                raise Mismatch(f"{self.layers} is a list of {layers}, but there are {len(tensors)} tensors")
            model = self._built(description)
            check_tensors(tensors, model.state_dict(), self.weights)
            model.load_state_dict(tensors, assign=True)
            described = self.describe(model) if self.describe else description
            for field in {**described, **description}:
                if described.get(field) != description.get(field):
                    found, held = (in_words(each.get(field)) for each in (description, described))
                    raise Mismatch(f"{field} is {found}, not {held} as the tensors have it")
        except Mismatch as error:
            raise corrupt_file(file, str(error)) from error
        return model.eval(), description

    def _built(self, description: dict[str, Any]) -> nn.Module:
        try:
            with torch.device("meta"):  # sizes that lie cost no memory
                model = self.build(description)
                relations = list(self.relations(model, description))
        except InputError as error:
            raise Mismatch(str(error).partition(": ")[0][:200]) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise Mismatch(f"its description is not that of a {self.what}") from error
        check_relations(description, relations)
        return model


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rule: Rule) -> None:
    """Mismatch unless these have the names, types and shapes of the others, and numbers by `TENSORS` or the rule."""
    for name in {**wanted, **found}:
        if name not in found or name not in wanted:
            raise Mismatch(f"{name} is {'missing' if name in wanted else 'no tensor of it'}")
        tensor, like = found[name], wanted[name]
        if (tensor.dtype, tensor.shape) != (like.dtype, like.shape):
            held, needed = (f"{str(each.dtype)[6:]} {tuple(each.shape)}" for each in (tensor, like))
            raise Mismatch(f"{name} is {held}, not {needed}")
        if tensor.is_floating_point():
            own = TENSORS.get(name.rpartition(".")[2], rule)
            ends = [end.item() for end in tensor.aminmax()]  # a rule holds between two numbers of which it holds
            if not all(map(own.allows, ends)):
                wrong = next(value for value in tensor.flatten().tolist() if not own.allows(value))
                raise Mismatch(f"{name} holds {wrong:g}, not {own.wanted}")


def _of_scaling(about: Mapping[str, Any], scaling: Scaling, values: int) -> Iterator[Relation]:
    """Of what is said of the data, for a model of so many values."""
    width, table = scaling.stored_width(values), scaling.table
    yield "codes", f"codes that become {values} values", scaling.width(width) == values
    yield "columns", f"{width} names", len(scaling.columns) in (0, width)
    yield "columns", "names that differ", len(set(scaling.columns)) == len(scaling.columns)
    yield "codes", "those of the table", not table or [each.states for each in table] == about.get("codes")
    for each in table:
        n, least = len(set(each.categories)), 2 if each.kind == "categorical" else 0
        yield "table", "of columns with categories that differ", n == len(each.categories) >= least
        yield "table", "of columns of two values at most", each.kind == "categorical" or n in (0, 2)
    limits = about.get("limits") or [0, 0]
    is_of_each = isinstance(limits[0], list)
    yield "limits", f"the ends of {width} columns", not is_of_each or len(limits) == width
    pairs = [about.get("values", (0, 0)), *(limits if is_of_each else [limits])]
    yield "limits", "the least and the greatest", all(None in pair or pair[0] <= pair[1] for pair in pairs)
    for name in ("shift", "spread"):
        yield name, f"{values} numbers", about.get(name) is None or len(about[name]) == values
    yield "spread", "there with a shift", (about.get("shift") is None) == (about.get("spread") is None)
    shape = about.get("image_shape")
    yield "image_shape", f"the sides of pictures of {width} values", shape is None or math.prod(shape) == width


def _of_stack(stack: DBN, about: dict[str, Any]) -> Iterator[Relation]:
    yield "units", "two layers or more", len(about["units"]) > 1
    yield from _of_scaling(about, stack.scaling, stack.sizes[0])


def _of_labels(model: LabelModel, about: dict[str, Any]) -> Iterator[Relation]:
    yield "classes", "names that differ", len(set(model.classes)) == len(model.classes)
    values = model.layers[0].visible.size if len(model.layers) > 1 else model.n_features
    yield from _of_scaling(about, model.scaling, values)


def _of_network(network: nn.Sequential, about: dict[str, Any]) -> Iterator[Relation]:
    task, sizes = task_of(about), about["sizes"]
    names = "classes" if "classes" in about else "targets"
    yield names, f"{sizes[-1]} names", len(task.names) == sizes[-1]
    yield "classes", "names that differ", names == "targets" or len(set(task.names)) == len(task.names)
    for name in ("target_shift", "target_spread"):
        yield name, f"{sizes[-1]} numbers", len(about.get(name, task.names)) == len(task.names)
    yield from _of_scaling(about, Scaling.from_description(about), sizes[0])


def _network(about: dict[str, Any]) -> nn.Sequential:
    check(about, TASKS[about.get("task", "classify")].fields)
    return meta_mlp(about)


STACK_FILE = ModelFormat("stack", STACK, "units", DBN.from_description, DBN.description, _of_stack, PARAMETER)
LABEL_FILE = ModelFormat(
    "label model", LABELS, "layers", LabelModel.from_description, LabelModel.description, _of_labels, PARAMETER
)
NETWORK_FILE = ModelFormat("network", NETWORK, "sizes", _network, None, _of_network, NUMBER)
