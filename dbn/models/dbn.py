"""The deep belief network: a stack of RBMs, the hidden units of each the visible units of the next.

Hinton, Osindero & Teh (2006), "A fast learning algorithm for deep belief nets".
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dbn.arrays import AnyRows, Array, as_tensor, columns_of
from dbn.errors import InputError, check_types, naming_arguments
from dbn.models.autoencoder import Autoencoder
from dbn.models.gibbs import GibbsChains
from dbn.models.impute import impute
from dbn.models.matching import Match, column_order, match
from dbn.models.matmul import is_transforming
from dbn.models.mlp import initialize_output, network_of
from dbn.models.rbm import RBM
from dbn.models.scaling import Scaling, read_provenance
from dbn.models.units.base import Units
from dbn.models.units.naming import units_of
from dbn.rng import stream


class DBN(nn.Module):
    """A stack of RBMs, trained by `dbn.pretrain`. `up`, `down` and `sample` take and give scaled values: see `scale`.

    As a module it is `up`. A stack from `dbn.pretrain` or `dbn.load` is in eval mode, and its parameters require no
    gradient: to train it as a part of a network, call `requires_grad_()`, or take `to_mlp`.

    >>> from dbn.models import RBM, Bernoulli, Gaussian
    >>> stack = DBN([RBM(Bernoulli(784), Bernoulli(100)), RBM(Bernoulli(100), Gaussian(20))])
    >>> stack.up(torch.zeros(5, 784)).shape, stack.sample(3, steps=2).shape
    (torch.Size([5, 20]), torch.Size([3, 784]))
    >>> stack.to_mlp(n_classes=10)[-1]
    Linear(in_features=20, out_features=10, bias=True)
    """

    def __init__(
        self,
        rbms: Iterable[RBM],
        scaling: Scaling | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        given: Any = rbms
        made = list(given) if isinstance(given, Iterable) else [given]
        if not made or not all(isinstance(rbm, RBM) for rbm in made):
            raise InputError("a stack needs at least one layer: give a list of RBMs")
        self.rbms = nn.ModuleList(made)
        self.scaling = Scaling() if scaling is None else scaling
        self.history: list[dict[str, Any]] = []
        """Of training: the lines of metrics.jsonl; not saved with the weights."""
        self.image_shape = image_shape
        """(channels, height, width) where the visible units are the pixels of an image."""
        for lower, upper in pairwise(self.layers):
            below, above = lower.hidden, upper.visible
            if (below.spec, below.size) != (above.spec, above.size):
                raise InputError(
                    f"{below.size} {below.spec} hidden units cannot feed {above.size} {above.spec} visible units: "
                    "make them alike"
                )

    @property
    def layers(self) -> list[RBM]:
        """The RBMs from the data upwards."""
        return [rbm for rbm in self.rbms if isinstance(rbm, RBM)]

    @property
    def sizes(self) -> list[int]:
        """V, H_1, …, H_top."""
        return [self.layers[0].visible.size, *(rbm.hidden.size for rbm in self.layers)]

    @property
    def width(self) -> int:
        """The number of values of a row of data: V, or the columns of codes that become V one-hot values."""
        return self.scaling.stored_width(self.sizes[0])

    def scale(self, x: Array, divisor: float | None = None) -> Tensor:
        """Raw data as in training, (B, V) float32: images flattened, bytes divided, columns standardized.

        Columns of data frames are matched by their names.

        Values of another scale are brought to that of training where it is certain what they are; `divisor` says it.
        InputError for another width, and elsewhere, see `dbn.models.matching.match`.
        """
        rows = self._rows(x, self.width) if not self.scaling.table else self.coded(x)
        with naming_arguments():
            found = self.match(rows, divisor=divisor, by_row=True)
        scaled: Tensor = found.scaling(rows)
        return scaled

    def coded(self, x: Array, name: str = "x") -> Tensor:
        """Cells of a table as codes, (B, V), columns in the stack's order; InputError for a cell that is unknown."""
        with naming_arguments():
            order = column_order(self.scaling, columns_of(x), name, "the stack")
            return self.scaling.coded(x, order, name).to(self.layers[0].weight.device)

    def _rows(self, x: Array, *widths: int) -> Tensor:
        """Rows or images of any library, (B, V), named columns in the stack's order. InputError for other widths."""
        with naming_arguments():
            order = column_order(self.scaling, columns_of(x), "x", "the stack")
        rows = as_tensor(x)
        rows = rows.flatten(1) if rows.ndim in (3, 4) else rows
        rows = rows if order is None else rows[:, list(order)]
        if rows.ndim != 2 or rows.shape[1] not in widths:
            if self.scaling.codes is not None:
                raise InputError(f"the stack takes rows of {self.width} codes, not x of shape {tuple(rows.shape)}")
            self.layers[0].visible.check_rows(rows)
        return rows

    def match(self, x: AnyRows, name: str = "x", **known: Any) -> Match:
        """How rows become what the stack takes: `dbn.models.matching.match` with the stack's scaling and units."""
        usual: dict[str, Any] = {"width": self.width, "bounded": self.takes_fractions, "what": "the stack"}
        return match(self.scaling, x, name, **usual | known)

    @property
    def takes_fractions(self) -> bool:
        """Whether the visible units take values in [0, 1] alone, and data are such values."""
        visible = self.layers[0].visible
        beyond = (visible.range_error(*ends) for ends in ((-1.0, 1.0), (0.0, 2.0)))
        return self.scaling.codes is None and not visible.range_error(0.0, 1.0) and all(beyond)

    def forward(self, x: Tensor) -> Tensor:
        """`up`."""
        return self.up(x)

    def up(self, x: Array, layers: int | None = None) -> Tensor:
        """Features: the mean of each layer given the mean of the one below, (B, V) -> (B, H_top), or of `layers`.

        x: floats that are scaled already, (B, V), or images (B, H, W) or (B, C, H, W), as tensor, array or list; bytes
        and other whole numbers are scaled first, as in training. InputError for rows of another width, and for values
        that the visible units cannot take (of floats this is asked on the CPU alone, where it costs no transfer).
        """
        h = self._scaled(x)
        for rbm in self.layers[:layers]:
            h = rbm.up(h)
        return h

    def _scaled(self, x: Array) -> Tensor:
        """What `up` takes, as values of the visible units on the stack's device; InputError as for `up`."""
        weight = self.layers[0].weight
        if self.scaling.table and not (
            isinstance(x, Tensor) and x.is_floating_point() and [*x.shape[1:]] == self.sizes[:1]
        ):
            return self.scale(x).to(weight)
        rows = self._rows(x, self.width, self.sizes[0])
        is_raw = not rows.is_floating_point() or rows.shape[1] != self.sizes[0]
        h = (self.scale(rows.to(weight.device)) if is_raw else rows).to(weight)
        if self.scaling.shift is None and (is_raw or rows.device.type == "cpu"):
            self._check_range(h)
        return h

    def _check_range(self, x: Tensor) -> None:
        """InputError for scaled values that the visible units cannot take; a compiler or transform asks for none."""
        if torch.compiler.is_compiling() or is_transforming() or not x.numel():
            return
        least, greatest = (float(end) for end in x.detach().aminmax())
        if self.layers[0].visible.range_error(least, greatest):
            raise InputError(
                f"x has values from {least:g} to {greatest:g}, which {self.layers[0].visible.kind} units cannot take: "
                "bring them to the scale of the training data"
            )

    def sample_up(self, x: Array, generator: torch.Generator | None = None) -> Tensor:
        """States of the top RBM's visible units given data, as for `up`: (B, V) -> (B, H_top−1), layer by layer."""
        v = self._scaled(x)
        for rbm in self.layers[:-1]:
            v = rbm.sample_hidden(v, generator)
        return v

    def down(self, h: Array, generator: torch.Generator | None = None, *, draws: bool = False) -> Tensor:
        """The mean of the visible units given a state of the top, (B, H_top) -> (B, V), or with `draws` a sample.

        Layers between are sampled with `generator`, or replaced by their means without one.
        """
        h = self.lowest_hidden(h, generator)
        return self.layers[0].sample_visible(h, generator) if draws else self.layers[0].down(h)

    def lowest_hidden(self, h: Array, generator: torch.Generator | None) -> Tensor:
        """The hidden units of the lowest layer given a state of the top, as `down` has them, (B, H_1)."""
        h = as_tensor(h, "h")
        self.layers[-1].hidden.check_rows(h)
        for rbm in reversed(self.layers[1:]):
            h = rbm.down(h) if generator is None else rbm.sample_visible(h, generator)
        return h

    @check_types
    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        steps: int = 1000,
        start: Array | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        draws: bool = False,
    ) -> Tensor:
        """`n` draws from the model: `steps` Gibbs steps in the top RBM, then down; the visible means, (n, V).

        Of categories a draw in place of the means, as codes (n, V/q), and of a mixed layer too, as codes and numbers in
        the data's units, a column each: `cells` names them.

        start: data (n, V) that the chains start from, as for `up`; by default the visible biases of the top RBM.
        generator: on the stack's device, in place of the `seed`. draws: draws of the visible units, not their means.
        `dbn.sampling.sample` tempers the chains, and says how far they mix. InputError for no step, another number of
        starting points, and a top RBM without a finite Z, whose chains would diverge.
        """
        if steps < 1:
            raise InputError(f"sampling needs at least one Gibbs step, not {steps}")
        if n < 0:
            raise InputError(f"a number of samples is at least 0, not {n}")
        top = self.layers[-1]
        top.check_partition("top RBM")
        generator = stream(seed, "sample", device=top.weight.device) if generator is None else generator
        if start is None:
            v = top.visible.sample(top.weight.new_zeros(n, top.visible.size), generator)
        else:
            if len(start) != n:
                raise InputError(f"{n} samples need {n} starting points, not {len(start)}")
            v = self.sample_up(start, generator)
        chains = GibbsChains(top, v, generator)
        for _ in chains.run(steps - 1):
            pass
        return self.samples_given(top.sample_hidden(chains.v, generator), generator, draws=draws)

    @check_types
    def impute(
        self,
        x: Array,
        known: Array | None = None,
        *,
        draws: bool = False,
        steps: int = 100,
        discard: int = 20,
        seed: int = 0,
        divisor: float | None = None,
    ) -> Any:
        """Rows as they are stored, (B, V), with their missing values filled in; observed ones stay as they are.

        x: NaN, None or masked entries are missing; known: (B, V), true where a value is observed, in place of such.
        Missing numbers become means E[v_i | v_known], and categories the most probable ones, or with `draws` samples;
        a tensor, of a table a dict of its columns. `steps` Gibbs steps are averaged after `discard` others, and
        `dbn.models.impute` says how. InputError as for `scale`, and for a row without any value.

        >>> from dbn.models import RBM, Bernoulli
        >>> DBN([RBM(Bernoulli(3), Bernoulli(2))], Scaling(1)).impute([[1, 0, float("nan")]])
        tensor([[1.0000, 0.0000, 0.5000]], dtype=torch.float64)
        """
        return impute(self, x, known, draws=draws, steps=steps, discard=discard, seed=seed, divisor=divisor)

    def samples_given(self, h: Tensor, generator: torch.Generator, *, draws: bool = False) -> Tensor:
        """`down`; of categories always draws, as codes."""
        if self.scaling.codes is None:
            return self.down(h, generator, draws=draws)
        return self.scaling.inverse(self.down(h, generator, draws=True))

    def cells(self, x: Tensor) -> dict[str, list[Any]]:
        """The columns by name, with the names of categories, of samples (n, V) of a table.

        InputError for a stack that was trained on other data.
        """
        if not self.scaling.table:
            raise InputError(
                "the stack was trained on numbers without names of categories: take its samples as they are"
            )
        return self.scaling.cells(x)

    def encoder(self) -> nn.Sequential:
        """`up` as a plain network: Linear, Sigmoid, Linear, Sigmoid, … with copies of the weights.

        In it relu units give their most probable states, and binomial ones their mean as a fraction of the trials, by
        which the weights of the next layer are multiplied. After a layer of drelu units stands a module with their
        parameters (`dbn.models.units.drelu.DoubleReLU`).
        """
        return network_of(_as_linear(self._upwards()))

    def _upwards(self) -> list[tuple[Units, Tensor]]:
        return [(rbm.hidden, rbm.weight) for rbm in self.layers]

    def to_autoencoder(self) -> Autoencoder:
        """`down(up(x))` as a network to train: the encoder, and the transposed weights as a decoder; copies of both.

        Up and down no longer share weights. InputError where no activation gives the mean of the visible units.
        Hinton & Salakhutdinov (2006).
        """
        visible = self.layers[0].visible
        if visible.mean_factor != 1:
            raise InputError(
                f"no layer of a network ends with the counts of {visible.spec} units: use other visible units"
            )
        downwards = [(rbm.visible, rbm.weight.T) for rbm in reversed(self.layers)]
        *layers, (weight, bias, output) = _as_linear([*self._upwards(), *downwards])
        if not isinstance(output, str):
            raise InputError(f"no autoencoder ends with the values of {visible.spec} units: use other visible units")
        return Autoencoder(network_of([*layers, (weight, bias, "identity")]), output)

    @check_types
    def to_mlp(self, n_classes: int, seed: int = 0) -> nn.Sequential:
        """The encoder and a new output layer of `n_classes` units (Xavier uniform): scaled data to logits."""
        if n_classes < 2:
            raise InputError(f"a classifier needs at least 2 classes, not {n_classes}")
        output = nn.Linear(self.sizes[-1], n_classes, device="meta", dtype=self.layers[0].weight.dtype)
        output.to_empty(device=self.layers[0].weight.device)
        initialize_output(output, stream(seed, "output layer"))
        return self.encoder().append(output)

    def description(self) -> dict[str, Any]:
        """Everything but the weights, as JSON data."""
        units = [self.layers[0].visible, *(rbm.hidden for rbm in self.layers)]
        return {
            "units": [layer.description() for layer in units],
            "divisor": self.scaling.divisor,
            "standardised": self.scaling.shift is not None,
            "image_shape": list(self.image_shape) if self.image_shape else None,
            **self.scaling.provenance(),
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "DBN":
        """A stack with zero weights, for `load_state_dict`; the inverse of `description`."""
        # Each layer twice, as the hidden units of one RBM and the visible ones of the next.
        rbms = [RBM(units_of(below), units_of(above)) for below, above in pairwise(description["units"])]
        ends = torch.zeros(2, rbms[0].visible.size, dtype=torch.float32)
        standard = (ends[0], ends[1] + 1) if description["standardised"] else ()
        shape = description["image_shape"]
        scaling = Scaling(float(description["divisor"]), *standard, **read_provenance(description))
        return cls(rbms, scaling, tuple(shape) if shape else None)


@torch.no_grad()
def copy_layers(stack: DBN, layers: Sequence[nn.Module]) -> None:
    """Copy the layers of a stack, the top included, to the first of a network; InputError where one does not fit."""
    if len(layers) < len(stack.layers):
        raise InputError(
            f"a stack of {len(stack.layers)} layers does not fit into a network of {len(layers)} hidden layers"
        )
    copied = _as_linear(stack._upwards())
    for depth, ((weight, bias, _), layer) in enumerate(zip(copied, layers, strict=False), start=1):
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise InputError(f"layer {depth} of the network must be linear with a bias, as the stack's is, not {layer}")
        if layer.weight.shape != weight.shape:
            raise InputError(
                f"layer {depth} of the stack is {tuple(weight.shape)}, of the network "
                f"{tuple(layer.weight.shape)}: give both the same sizes"
            )
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def _as_linear(layers: Iterable[tuple[Units, Tensor]]) -> list[tuple[Tensor, Tensor, str | nn.Module]]:
    """Weight, bias and activation of the layers of a network that has these units after these weights."""
    found, factor = [], 1.0
    for units, weight in layers:
        found.append(units.as_linear(weight if factor == 1 else factor * weight))
        factor = units.mean_factor
    return found
