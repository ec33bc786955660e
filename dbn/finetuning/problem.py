"""The problem of a comparison, shared by its arms: data, labels drawn, network, budget."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dbn.config.finetuning import Finetuning
from dbn.config.schedules import Schedule
from dbn.data.cut import draw_labels
from dbn.data.examples import Examples, labels_of
from dbn.data.splits import Splits
from dbn.errors import InputError
from dbn.initializers.arms import Arm, parse_arm, parse_initializer, parse_scheme
from dbn.initializers.schemes import Initializer
from dbn.models.dbn import DBN
from dbn.models.mlp import ACTIVATIONS, initialize_normalizing, linear_layers, meta_mlp
from dbn.models.scaling import Scaling
from dbn.rng import permutation, stream
from dbn.runs.training_data import fingerprint
from dbn.tasks import TASKS, Task
from dbn.training import distributed
from dbn.training.device import matmul_dtype

LOGGER = logging.getLogger(__name__)

STARTING_EXAMPLES, SIGNAL_EXAMPLES = 1000, 500
"""Rows for initializers that measure data, and for signals: standard deviations within a few per cent."""


@dataclass(frozen=True)
class Problem:
    """Data, stacks and options, checked. InputError for those that do not fit each other."""

    splits: Splits
    """On the training device."""
    scaling: Scaling
    hidden: tuple[int, ...]
    stacks: tuple[DBN, ...]
    """None, one for all seeds, or one per seed."""
    config: Finetuning
    """With everything that was left out."""
    given: Splits | None = None
    """The splits with the labels that they came with, where the task has targets of its own."""

    def __post_init__(self) -> None:
        _ = self.task
        object.__setattr__(self, "config", self.config.for_data(self.labels))
        width = self.splits.train.x.shape[1]
        for stack in self.stacks:
            if stack.width != width:
                raise InputError(
                    f"the stack was pre-trained on {stack.width} values an example, but {self.splits.name} has "
                    f"{width}: name the data set it was trained on"
                )
            if stack.sizes[1:] != list(self.hidden):
                raise InputError("the pre-trained stacks differ in their sizes: compare one architecture at a time")
            if not stack.scaling.standardizes_as(self.scaling):
                raise InputError("the pre-trained stacks scale their data differently: train all on one data set")
        if self.config.labels_per_class is not None and not self.splits.classes:
            raise InputError(f"--labels-per-class needs classes, and --task {self.config.task} has none: say --labels")
        rates, layers = len(self.config.layer_rates), len(self.sizes) - 1
        if rates not in (1, layers):
            raise InputError(
                f"--layer-rates takes one value or one per layer ({layers}, with the output's), not {rates}"
            )
        for option, n, part, purpose in (
            ("--labels", self.config.labels or 0, self.labeled_train, "training"),
            ("--valid-labels", self.valid_labels, self.labeled_valid, "validation"),
        ):
            if n > len(part):
                labeled = "" if part in (self.splits.train, self.splits.valid) else "labeled "
                raise InputError(f"{option} {n} is more than the {len(part)} {labeled}{purpose} examples")
        self._check_pseudo_labels()
        matmul_dtype(self.config.precision, self.device)
        distributed.check_shares("batch-size", self.config.batch_size)
        self.labeled(self.config.seed)  # whether the classes have enough examples is the same for every seed
        self._check_arms()

    def _check_pseudo_labels(self) -> None:
        written, rows = self.config.pseudo_labels, len(self.splits.train)
        if written is None:
            return
        if self.labels == rows:
            raise InputError(
                f"--pseudo-labels needs training rows without a label in use, but all {rows:,} have one: put rows "
                "without label into the same file, say --labels for fewer, or leave it out"
            )
        if max(Schedule.read(written).values) > rows:
            raise InputError(f"--pseudo-labels {written} is more than the {rows:,} training rows")

    def _check_arms(self) -> None:
        _ = self._output
        arms = [parse_arm(text) for text in self.config.init]
        for arm in arms:
            alike = [each.name for each in arms if each.meaning == arm.meaning]
            if len(alike) > 1:
                raise InputError(f"--init names {arm.name} more than once, as {' and '.join(alike)}: keep one")
            if arm.start == "dbn" and ":" not in arm.name:
                self._check_activation(arm)
            if self.initializer(arm, self.config.seed).normalize:
                self._check_last_batch(arm)

    def _check_activation(self, arm: Arm) -> None:
        """InputError where an arm that names no activation has another than the stack's hidden units."""
        for rbm in (rbm for stack in self.stacks for rbm in stack.layers):
            _, _, own = rbm.hidden.as_linear(rbm.weight)
            if own not in (arm.activation, "identity"):
                units = f"the stack's {rbm.hidden.spec} hidden units"
                if own not in ACTIVATIONS:
                    raise InputError(
                        f"--init dbn starts a network with the activation of {units}, but no network has theirs, "
                        f"{own}: write dbn:{arm.activation} for their weights under that one, or pre-train with others"
                    )
                raise InputError(
                    f"--init dbn has the activation {arm.activation}, but {units} have {own}: write dbn:{own}"
                )

    def _check_last_batch(self, arm: Arm) -> None:
        if self.config.pseudo_labels is not None:
            raise InputError(
                f"--init {arm.name} normalizes whole batches, and with --pseudo-labels the last of an epoch may be one "
                "row: leave one of the two out"
            )
        if distributed.size() > 1:
            # torch's SyncBatchNorm needs GPUs, and statistics per process would make it another arm.
            raise InputError(
                f"--init {arm.name} normalizes whole batches, which {distributed.size()} processes share: start one"
            )
        batch = self.config.batch_size
        for n in (self.labels, self.labels + self.valid_labels)[: 1 + self.config.refit]:
            if batch == 1 or n % batch == 1:
                raise InputError(
                    f"--init {arm.name} cannot normalize a batch of one example, and {n} examples in batches of "
                    f"{batch} end in one: choose another --batch-size"
                )

    def check_initializers(self) -> None:
        """InputError for an initializer that the training data do not allow, before anything is written."""
        for arm in map(parse_arm, self.config.init):
            if self.initializer(arm, self.config.seed).from_data:
                self.network(arm, self.config.seed)

    @cached_property
    def task(self) -> Task:
        """What the networks are trained to do; InputError for data that it does not take."""
        return TASKS[self.config.task].of(self.splits, self.scaling)

    def task_of(self, seed: int) -> Task:
        """The task with what it measures on the labeled training examples of a seed."""
        if type(self.task).fitted is Task.fitted:
            return self.task
        return self.task.fitted(labels_of(self.labeled(seed)[0]))

    @property
    def fingerprint(self) -> str:
        """A hash of examples, labels, splits and the stacks' weights."""
        return fingerprint(self.splits, self.stacks)

    @property
    def labels(self) -> int:
        """Number of labeled training examples."""
        if self.config.labels_per_class is not None:
            return self.config.labels_per_class * self.splits.n_classes
        return len(self.labeled_train) if self.config.labels is None else self.config.labels

    @cached_property
    def labeled_train(self) -> Examples:
        """The training examples with a label, all of them."""
        return self.splits.train.labeled()

    @cached_property
    def labeled_valid(self) -> Examples:
        """The validation examples with a label, all of them."""
        return self.splits.valid.labeled()

    @property
    def valid_labels(self) -> int:
        """Number of labeled validation examples, for tuning and early stopping."""
        if self.config.valid_labels is not None:
            return self.config.valid_labels
        return min(self.labels, 1000, len(self.labeled_valid))

    @property
    def seeds(self) -> range:
        """The seeds of the comparison."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.splits.train.x.device

    @property
    def test(self) -> Examples:
        """The test examples that have a label."""
        if self.splits.test is None:
            raise InputError(f"{self.splits.name} has no test examples")
        test = self.splits.test.labeled()
        if not len(test):
            raise InputError(f"{self.splits.name}: no test example has a label, and testing needs them: label some")
        return test

    def description(self, arm: Arm, seed: int | None = None) -> dict[str, Any]:
        """Metadata of a classifier file: network, task and scaling; a task that measures needs the seed."""
        task = self.task if seed is None else self.task_of(seed)
        return {
            "sizes": self.sizes,
            "activation": self._activations(arm),
            "normalise": self.initializer(arm, self.config.seed).normalize,
            **task.description(),
            **self.scaling.description(),
        }

    @property
    def sizes(self) -> list[int]:
        """Of the network: V, H_1, …, outputs; of one that is mirrored V, H_1, …, H_L, …, H_1, V."""
        back = self.hidden[-2::-1] if self.task.mirrored else ()
        return [self.scaling.width(self.splits.train.x.shape[1]), *self.hidden, *back, self.task.outputs]

    def _activations(self, arm: Arm) -> str | list[str]:
        """Of the hidden layers; a code is linear, unless a stack has other units there."""
        if not self.task.mirrored:
            return arm.activation
        top = self.stacks[0].layers[-1] if self.stacks else None
        is_linear = top is None or top.hidden.as_linear(top.weight)[2] == "identity"
        around = [arm.activation] * (len(self.hidden) - 1)
        return [*around, "identity" if is_linear else arm.activation, *around]

    def labeled(self, seed: int) -> tuple[Examples, Examples]:
        """The labeled training and validation examples of a seed, the same for every arm."""
        per_class, n_valid = self.config.labels_per_class, self.valid_labels
        asked = f"--labels {self.labels}" if per_class is None else f"--labels-per-class {per_class}"
        parts = (
            ("labels", asked, self.labeled_train, self.labels, per_class is not None),
            ("validation labels", f"--valid-labels {n_valid}", self.labeled_valid, n_valid, False),
        )
        drawn = []
        for purpose, asked, part, n, equal in parts:
            if n < len(part) or equal:
                (groups, n_groups), generator = self.task.groups(labels_of(part)), stream(seed, purpose)
                part = part[draw_labels(groups, n, n_groups, generator, asked, balanced=equal or self.splits.balanced)]
            drawn.append(Examples(part.tensor, part.y))
        return drawn[0], drawn[1]

    def initializer(self, arm: Arm, seed: int) -> Initializer:
        """The initializer of an arm; that of `dbn` has the stack of the seed."""
        stack = self.stacks[self.seeds.index(seed) % len(self.stacks)] if self.stacks else None
        return arm.initializer(stack, mirrored=self.task.mirrored)

    def network(self, arm: Arm, seed: int) -> nn.Sequential:
        """The network of an arm before training: hidden layers by the arm, the output layer by `output_init`.

        The output layer follows from the seed alone, but `zeros` and `constant` fill it too.
        """
        initializer = self.initializer(arm, seed)
        # Built without memory, since every number is set below; torch's global random state is not used.
        network = meta_mlp(self.description(arm)).to_empty(device=self.device)
        initialize_normalizing(network)
        *hidden, output = linear_layers(network)
        x = self._inputs(seed)
        self._output.fill([output], "identity", stream(seed, "output layer"), x)
        layers = [*hidden, output] if initializer.every_layer else hidden
        initializer.fill(layers, arm.activation, stream(seed, "start"), x)
        return network

    def network_with(self, arm: Arm, weights: Mapping[str, Tensor]) -> nn.Sequential:
        """The network of an arm with these weights."""
        network = meta_mlp(self.description(arm)).to_empty(device=self.device)
        network.load_state_dict(weights)
        return network

    def probe(self, seed: int) -> tuple[Tensor, Tensor]:
        """Labeled training examples to measure signals at, the same for every arm: scaled, (≤ 500, V), and targets."""
        examples, _ = self.labeled(seed)
        rows = permutation(len(examples), stream(seed, "signals"))[:SIGNAL_EXAMPLES].to(self.device)
        targets = self.task.fitted(labels_of(examples)).targets(labels_of(examples)).to(self.device)
        return self.scaling(examples.x[rows]), targets[rows]

    @cached_property
    def _output(self) -> Initializer:
        written = self.config.output_init
        try:
            found = None if parse_scheme(written)[0] == "dbn" else parse_initializer(written)
        except InputError as error:
            raise InputError(f"--output-init: {error}") from None
        if found is None or found.from_data or found.normalize:
            raise InputError(f"--output-init {written} is for hidden layers alone: choose another initializer")
        return found

    def _inputs(self, seed: int) -> Tensor:
        """Training rows, labeled or not, for initializers that measure data; the same for every arm: (≤ 1000, V)."""
        x = self.splits.train.x
        rows = permutation(len(x), stream(seed, "data for the start"))[:STARTING_EXAMPLES]
        scaled: Tensor = self.scaling(x[rows.to(x.device)])
        return scaled
