"""Features of an RBM, and of a stack of them."""

from dataclasses import replace
from typing import Any, Self

import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from dbn.data.rows import in_memory
from dbn.errors import InputError, naming_arguments
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood
from dbn.models.dbn import DBN
from dbn.models.rbm import RBM
from dbn.models.units.bernoulli import Bernoulli, softplus
from dbn.pretraining.layer_data import Unlabeled
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import new_rbm
from dbn.pretraining.trainer import LayerTrainer
from dbn.rng import stream
from dbn.sklearn.pretrained import Pretrained, in_parts, renamed, rows_in
from dbn.training.device import pick_device


class Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Pretrained):
    """A transformer whose features are the means of the top hidden units."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows X (N, V); y is ignored. InputError, a ValueError, for what cannot be used."""
        self.stack_ = self._pretrain(rows_in(self._checked(X, fitting=True, ensure_min_samples=2)))
        return self

    def transform(self, X: Any) -> NDArray:
        """E[h | v] of the top layer, (N, n_features_out), in the type of X; computed in it."""
        states, kind = self._states(X)
        return in_parts(self._model(kind).up, states)

    @property
    def _n_features_out(self) -> int:
        return self.stack_.sizes[-1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _has_states(transformer: "RBMTransformer") -> bool:
    """Whether the visible units have a pseudo-likelihood; also before `fit`, which is then asked for."""
    return not hasattr(transformer, "stack_") or transformer.rbm_.visible.sites() is not None


class RBMTransformer(Transformer):
    """Features E[h | v] of a restricted Boltzmann machine, with the names of scikit-learn's BernoulliRBM.

    n_components: hidden units.
    learning_rate: a number, or a schedule such as "0.1:0"; None for what `dbn.config.defaults` chooses: 0.1, for
    batches of 100 or more 0.2, beside Gaussian units 0.01, and for persistent chains schedules that fall to 0.
    batch_size: rows per update. n_iter: passes over the rows.
    visible: type of the visible units, an entry of `dbn.models.UNITS`. None looks at the values of the rows that are
    fitted: bernoulli where all are in [0, 1], or bytes, which are divided by 255; else gaussian, with columns
    standardized within. Later rows must fit: those outside [0, 1] are refused by units that were trained within it.
    estimator: source of negative samples, "cd" or, as of BernoulliRBM, "pcd": see `dbn.sampling.CHAINS`.
    options: a dict of other fields of `dbn.config.Pretraining`, such as {"weight_decay": 0.001}.
    device: "auto", "cpu", "cuda"; results are kept on the CPU. verbose: show a progress bar, on standard error.
    random_state: one whole number gives one result, on one machine and number of threads.

    Training is that of `dbn.train_rbm` on all rows, in float32: shuffled batches, momentum, weight decay, and visible
    biases at the means of the data. Sparse rows are made dense. Attributes: `rbm_`, an RBM; `stack_`, a DBN of it alone
    with its scaling; `components_` (n_components, V), `intercept_hidden_`, `intercept_visible_`.

    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> RBMTransformer(n_components=20, n_iter=2, random_state=0).fit_transform(X).shape
    (1797, 20)
    """

    SIZES = "n_components"

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float | str | None = None,
        batch_size: int = 10,
        n_iter: int = 10,
        visible: str | None = None,
        estimator: str = "cd",
        options: dict[str, Any] | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.visible = visible
        self.estimator = estimator
        self.options = options
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on rows X (N, V); y is ignored. InputError, a ValueError, for what cannot be used."""
        self._trained: dict[str, Any] | None = None
        return super().fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One update by all rows of X, as BernoulliRBM makes; momentum and chains go on from one call to the next.

        The first call decides on the visible units and, for Gaussian ones, on the scale: give it many rows. Schedules
        stay at their start, without warm-up. After `fit` it goes on from the weights, with momentum and chains new.

        InputError as of `fit`, and for parameters by which what was kept from the last call has another form.
        """
        first = not hasattr(self, "stack_")
        splits, device = rows_in(self._checked(X, fitting=first)), pick_device(self.device)
        rows = in_memory(splits.train.x)
        splits = replace(splits, train=replace(splits.train, x=rows))
        if isinstance(self.learning_rate, str):
            raise InputError("partial_fit needs a number as learning_rate, since a schedule runs over epochs")
        with naming_arguments(), renamed(self._names):
            if first:
                self._begin()
                self._trained = None
            visible = self._visible(splits) if first else self.rbm_.visible.spec
            config = self._pretraining(splits, visible, epochs=1, warmup_epochs=0)
            if first:
                data = unlabeled(splits, config, device)._replace(valid=None)
            else:
                data = Unlabeled(rows.to(device), None, self._scaling(rows).to(device))
            with device:
                trainer = LayerTrainer(new_rbm(data.width, 1, config), [], data, config)
            try:
                if self._trained is not None:
                    trainer.load_state(moved(self._trained, device))
                elif not first:
                    trainer.rbm.load_state_dict(self.rbm_.state_dict())
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    "partial_fit cannot go on with the parameters as they are now, under which its RBM, optimizer or "
                    "chains have another form: set them back, or call fit"
                ) from error
            trainer.step(torch.arange(len(data.train), device=device), 1, self._draws)
            trainer.check_sound(1)
        self._draws += 1
        self._trained = moved(trainer.state(), "cpu")
        self.stack_ = DBN([trainer.kept.requires_grad_(False).cpu()], data.scaling.cpu()).eval()
        return self

    def gibbs(self, X: Any) -> NDArray:
        """Visible states (N, V) after one Gibbs step from X; each call draws anew. Standardizing is undone."""
        states, kind = self._states(X)
        self._draws += 1
        drawn = self._model(kind).layers[0].gibbs(states, 1, stream(self._seed, "gibbs", self._draws))
        found: NDArray = self.stack_.scaling.inverse(drawn).numpy()
        return found

    @available_if(_has_states)  # type: ignore[untyped-decorator]
    def score_samples(self, X: Any) -> NDArray:
        """The pseudo-log-likelihood Σ_i log p(v_i | v_−i) of each row, (N,), in nats; of units with a list of states.

        For binary units it is Σ_i log σ(F(v with v_i flipped) − F(v)), where v_i becomes 1 − v_i in gray levels too:
        exactly what BernoulliRBM estimates by flipping one value of each row, at V times the cost.
        """
        states, kind = self._states(X)
        rbm = self._model(kind).layers[0]
        score = flipped if isinstance(rbm.visible, Bernoulli) else pseudo_log_likelihood
        return in_parts(lambda rows: score(rbm, rows), states)

    def free_energy(self, X: Any) -> NDArray:
        """F(v) = −log Σ_h exp(−E(v, h)), (N,), nats: −log p(v) up to a constant, lower for rows like those fitted."""
        states, kind = self._states(X)
        return in_parts(self._model(kind).layers[0].free_energy, states)

    @property
    def rbm_(self) -> RBM:
        """The RBM; it takes scaled values."""
        return self.stack_.layers[0]

    @property
    def components_(self) -> NDArray:
        """The weights, (n_components, V)."""
        return _array(self.rbm_.weight)

    @property
    def intercept_hidden_(self) -> NDArray:
        """Biases of the hidden units, (n_components,)."""
        return _array(self.rbm_.hidden.bias)

    @property
    def intercept_visible_(self) -> NDArray:
        """Biases of the visible units, (V,)."""
        return _array(self.rbm_.visible.bias)


def moved(state: Any, device: torch.device | str) -> Any:
    """Dicts and lists with their tensors on a device.

    >>> moved({"epoch": 1, "rbms": [torch.zeros(1)]}, "meta")
    {'epoch': 1, 'rbms': [tensor(..., device='meta', size=(1,))]}
    """
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: moved(each, device) for name, each in state.items()}
    return [moved(each, device) for each in state] if isinstance(state, list) else state


def _array(parameter: Tensor) -> NDArray:
    found: NDArray = parameter.detach().numpy()
    return found


MAX_ELEMENTS = 2**21
"""Of the hidden fields of flipped rows at once, unless one row alone has more."""


def flipped(rbm: RBM, v: Tensor) -> Tensor:
    """Σ_i log σ(F(v with v_i ↦ 1 − v_i) − F(v)) of binary units, (B,)."""
    found = []
    for part in v.split(max(1, MAX_ELEMENTS // rbm.weight.numel())):
        change = 1 - 2 * part
        fields = (rbm.hidden_field(part) + rbm.hidden.bias)[:, None]
        terms = softplus(fields + change[:, :, None] * rbm.weight.T) - softplus(fields)
        found.append(-softplus(terms.sum(-1) + change * rbm.visible.bias).sum(-1))
    return torch.cat(found)


class DBNTransformer(Transformer):
    """Features of a stack of RBMs: the means of its top hidden units.

    hidden_layer_sizes: units of each layer, from the data upwards; None for 500, 500 and 2000, and at most a quarter of
    the rows. learning_rate, batch_size, n_iter: of pre-training, n_iter passes for each layer; None for what
    `dbn.config.defaults` chooses by the number of rows. hidden_units: their type, or one for each layer.
    visible, options, device, verbose and random_state are those of `RBMTransformer`.

    Training is that of `dbn.pretrain` on all rows. Attribute: `stack_`, a DBN.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((100, 8))
    >>> DBNTransformer((5, 3), n_iter=1, random_state=0).fit(X).get_feature_names_out()
    array(['dbntransformer0', 'dbntransformer1', 'dbntransformer2'],
          dtype=object)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = None,
        *,
        learning_rate: Any = None,
        batch_size: int | None = None,
        n_iter: Any = None,
        visible: str | None = None,
        hidden_units: Any = "bernoulli",
        options: dict[str, Any] | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.visible = visible
        self.hidden_units = hidden_units
        self.options = options
        self.device = device
        self.verbose = verbose
        self.random_state = random_state
