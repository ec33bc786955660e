"""The problem of a comparison, shared by its arms: data, labels drawn, network, budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from dbn.config.finetuning import FinetuneConfig, Finetuning
from dbn.data.cut import draw_labels
from dbn.data.datasets import load_splits
from dbn.data.splits import Examples, Splits, labels_of
from dbn.errors import InputError
from dbn.initializers.arms import Arm, parse_arm
from dbn.initializers.schemes import Initializer
from dbn.models.dbn import DBN
from dbn.models.mlp import initialize_normalizing, initialize_output, linear_layers, meta_mlp
from dbn.models.scaling import Scaling
from dbn.rng import permutation, stream
from dbn.runs.training_data import splits_of
from dbn.runs.weights import load
from dbn.training import distributed
from dbn.training.device import matmul_dtype, pick_device

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

    def __post_init__(self) -> None:
        if not self.splits.classes:
            raise InputError(f"{self.splits.name} has no labels, and fine-tuning needs them: add y, or --label-column")
        width = self.splits.train.x.shape[1]
        for stack in self.stacks:
            if stack.sizes[0] != width:
                raise InputError(
                    f"the stack was pre-trained on {stack.sizes[0]} values an example, but {self.splits.name} has "
                    f"{width}: name the data set it was trained on"
                )
            if stack.sizes[1:] != list(self.hidden):
                raise InputError("the pre-trained stacks differ in their sizes: compare one architecture at a time")
            if stack.scaling.description() != self.scaling.description():
                raise InputError("the pre-trained stacks scale their data differently: train all on one data set")
        rates, layers = len(self.config.layer_rates), len(self.hidden) + 1
        if rates not in (1, layers):
            raise InputError(
                f"--layer-rates takes one value or one per layer ({layers}, with the output's), not {rates}"
            )
        if self.labels > len(self.splits.train):
            raise InputError(f"--labels {self.labels} is more than the {len(self.splits.train)} training examples")
        if self.valid_labels > len(self.splits.valid):
            raise InputError(
                f"--valid-labels {self.valid_labels} is more than the {len(self.splits.valid)} validation examples"
            )
        matmul_dtype(self.config.precision, self.device)
        distributed.check_shares("batch-size", self.config.batch_size)
        self.labeled(self.config.seed)  # whether the classes have enough examples is the same for every seed
        self._check_arms()

    def _check_arms(self) -> None:
        arms = [parse_arm(text) for text in self.config.init]
        for arm in arms:
            alike = [each.name for each in arms if each.meaning == arm.meaning]
            if len(alike) > 1:
                raise InputError(f"--init names {arm.name} more than once, as {' and '.join(alike)}: keep one")
            if self.initializer(arm, self.config.seed).normalize:
                self._check_last_batch(arm)

    def _check_last_batch(self, arm: Arm) -> None:
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

    @property
    def fingerprint(self) -> str:
        """A hash of examples, labels, splits and the stacks' weights."""
        return fingerprint(self.splits, self.stacks)

    @property
    def labels(self) -> int:
        """Number of labeled training examples."""
        return len(self.splits.train) if self.config.labels is None else self.config.labels

    @property
    def valid_labels(self) -> int:
        """Number of labeled validation examples, for tuning and early stopping."""
        if self.config.valid_labels is not None:
            return self.config.valid_labels
        return min(self.labels, 1000, len(self.splits.valid))

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
        """The test examples."""
        if self.splits.test is None:
            raise InputError(f"{self.splits.name} has no test examples")
        return self.splits.test

    def description(self, arm: Arm) -> dict[str, Any]:
        """Metadata of a classifier file: network, classes and scaling."""
        return {
            "sizes": [self.splits.train.x.shape[1], *self.hidden, self.splits.n_classes],
            "activation": arm.activation,
            "normalise": self.initializer(arm, self.config.seed).normalize,
            "classes": list(self.splits.classes),
            **self.scaling.description(),
        }

    def labeled(self, seed: int) -> tuple[Examples, Examples]:
        """The labeled training and validation examples of a seed, the same for every arm."""
        parts = (
            ("labels", "--labels", self.splits.train, self.labels),
            ("validation labels", "--valid-labels", self.splits.valid, self.valid_labels),
        )
        drawn = []
        for purpose, option, part, n in parts:
            if part.y is None or n == len(part):
                drawn.append(Examples(part.tensor, part.y))
                continue
            rows = draw_labels(part.y, n, self.splits.n_classes, stream(seed, purpose), option)
            drawn.append(Examples(part.x[rows], part.y[rows]))
        return drawn[0], drawn[1]

    def initializer(self, arm: Arm, seed: int) -> Initializer:
        """The initializer of an arm; that of `dbn` has the stack of the seed."""
        stack = self.stacks[self.seeds.index(seed) % len(self.stacks)] if self.stacks else None
        return arm.initializer(stack)

    def network(self, arm: Arm, seed: int) -> nn.Sequential:
        """The network of an arm before training: hidden layers by the arm, the output layer by the seed alone.

        `zeros` and `constant` fill the output layer too.
        """
        initializer = self.initializer(arm, seed)
        # Built without memory, since every number is set below; torch's global random state is not used.
        network = meta_mlp(self.description(arm)).to_empty(device=self.device)
        initialize_normalizing(network)
        *hidden, output = linear_layers(network)
        initialize_output(output, stream(seed, "output layer"))
        layers = [*hidden, output] if initializer.every_layer else hidden
        initializer.fill(layers, arm.activation, stream(seed, "start"), self._inputs(seed))
        return network

    def network_with(self, arm: Arm, weights: Mapping[str, Tensor]) -> nn.Sequential:
        """The network of an arm with these weights."""
        network = meta_mlp(self.description(arm)).to_empty(device=self.device)
        network.load_state_dict(weights)
        return network

    def probe(self, seed: int) -> tuple[Tensor, Tensor]:
        """Labeled training examples to measure signals at, the same for every arm: scaled, (≤ 500, V), and classes."""
        examples, _ = self.labeled(seed)
        rows = permutation(len(examples), stream(seed, "signals"))[:SIGNAL_EXAMPLES].to(self.device)
        return self.scaling(examples.x[rows]), labels_of(examples)[rows]

    def _inputs(self, seed: int) -> Tensor:
        """Training rows, labeled or not, for initializers that measure data; the same for every arm: (≤ 1000, V)."""
        x = self.splits.train.x
        rows = permutation(len(x), stream(seed, "data for the start"))[:STARTING_EXAMPLES]
        scaled: Tensor = self.scaling(x[rows.to(x.device)])
        return scaled


def fingerprint(splits: Splits, stacks: Sequence[DBN]) -> str:
    """That of the splits without stacks; otherwise a hash of it and all weights."""
    if not stacks:
        return splits.fingerprint
    digest = blake2b(splits.fingerprint.encode(), digest_size=8)
    for stack in stacks:
        for name, tensor in stack.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().flatten().numpy().data)
    return digest.hexdigest()


def on_device(splits: Splits, device: torch.device) -> Splits:
    """The same splits on a device."""
    parts = {name: getattr(splits, name) for name in ("train", "valid", "test")}
    return replace(splits, **{name: part and part.to(device) for name, part in parts.items()})


def load_problem(config: FinetuneConfig) -> Problem:
    """The data set and the stacks that a configuration names, on its device.

    Without a data set, that of the first stack. InputError as for `load_splits`, `load` and `make_problem`.
    """
    device = pick_device(config.device)
    stacks = [load(path) for path in config.pretrained]
    where = {"data_dir": config.data_dir, "label_column": config.label_column}
    if config.dataset is None:
        splits = splits_of(config.pretrained[0], **where)  # type: ignore[arg-type]
    else:
        splits = load_splits(config.dataset, **where)  # type: ignore[arg-type]
    return make_problem(splits, stacks, config.hidden, config.training, device)


def make_problem(
    splits: Splits, stacks: Sequence[DBN], hidden: Sequence[int] | None, config: Finetuning, device: torch.device
) -> Problem:
    """The problem on a device, with the stacks' hidden layers where there are stacks; these are moved and frozen.

    InputError as for `Problem` and `Problem.check_initializers`.
    """
    stacks = tuple(stack.requires_grad_(False).to(device) for stack in stacks)
    scaling = stacks[0].scaling if stacks else Scaling(splits.divisor).to(device)
    layers = stacks[0].sizes[1:] if stacks else hidden or ()
    problem = Problem(on_device(splits, device), scaling, tuple(layers), stacks, config)
    problem.check_initializers()
    return problem
