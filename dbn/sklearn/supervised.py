"""Networks that start from a stack: a classifier and a regressor."""

import copy
import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from dbn.config.finetuning import Finetuning
from dbn.config.validation import several
from dbn.data.cut import LEAST_ROWS, cut
from dbn.data.marks import has_minus_one, marked
from dbn.data.splits import Splits
from dbn.errors import InputError, naming_arguments
from dbn.finetuning.comparison import Comparison
from dbn.finetuning.loading import make_problem
from dbn.models.dbn import DBN
from dbn.models.mlp import ACTIVATIONS
from dbn.sklearn.pretrained import TORCH, Pretrained, checked_options, in_parts, renamed, rows_in
from dbn.tasks import TASKS, Task
from dbn.training.device import pick_device


class Supervised(Pretrained):
    """A network that starts from a stack and learns targets; parameters are documented by its subclasses."""

    TASK = "classify"

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
        max_iter: int | None = None,
        learning_rate_init: Any = None,
        finetuning: dict[str, Any] | None = None,
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
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.finetuning = finetuning
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _train(self, X: Any, y: NDArray) -> None:
        """Pre-train on all rows, and fine-tune on those whose target is there."""
        splits = with_validation(marked(rows_in(X, y, read_labels=TASKS[self.TASK].read), None))
        with naming_arguments():
            splits.check_labels()
        self.stack_ = self._pretrain(rows_in(X))
        names = {"epochs": "max_iter", "learning-rate": "learning_rate_init"}
        with naming_arguments(), renamed(names):
            own = {"task": self.TASK, "init": (arm_of(self.stack_),), "seeds": 1, "seed": self._seed}
            own |= {} if self.max_iter is None else {"epochs": self.max_iter}
            own |= {} if self.learning_rate_init is None else {"learning_rate": several(self.learning_rate_init)}
            config = Finetuning(**checked_options("finetuning", self.finetuning, Finetuning, own))
            problem = make_problem(splits, [self.stack_], None, config, pick_device(self.device))
            (chosen,) = Comparison(problem, None).train(progress=bool(self.verbose))
        self.stack_ = self.stack_.cpu()
        (fit,) = chosen.final
        if not all(value.isfinite().all() for value in fit.weights.values()):
            raise InputError(f"fine-tuning diverged: give a learning_rate_init below {chosen.learning_rate:g}")
        self.network_ = problem.network_with(chosen.arm, fit.weights).cpu().requires_grad_(False).eval()
        self.task_: Task = problem.task_of(self._seed)
        self.n_iter_ = len(fit.history)
        self.best_learning_rate_ = chosen.learning_rate

    def _outputs(self, X: Any) -> Tensor:
        """Of the network, (N, outputs), computed in the type of X."""
        states, kind = self._states(X)
        network = self.network_ if kind == np.float32 else copy.deepcopy(self.network_).to(TORCH[kind])
        return torch.from_numpy(in_parts(network, states))


def arm_of(stack: DBN) -> str:
    """The arm that starts from a stack, with the activation of its hidden units."""
    bottom = stack.layers[0]
    own = bottom.hidden.as_linear(bottom.weight)[2]
    return f"dbn:{own}" if own in ACTIVATIONS and own != "sigmoid" else "dbn"


def with_validation(splits: Splits) -> Splits:
    """A tenth of the rows for validation; where there are too few for that, those of training."""
    if splits.label_error:
        return splits
    found = cut(splits, test=False) if len(splits.train) >= LEAST_ROWS else splits
    enough = not found.label_error and found.valid.n_labeled and found.train.n_labeled
    return found if enough else replace(splits, valid=splits.train)


class DBNClassifier(ClassifierMixin, Supervised):
    """A classifier that starts from a stack of RBMs, pre-trained on all rows, and is fine-tuned on the labeled ones.

    hidden_layer_sizes, learning_rate, batch_size, n_iter, visible, hidden_units, options, device, verbose and
    random_state are those of `DBNTransformer`, of pre-training. max_iter: epochs of fine-tuning; learning_rate_init:
    its learning rate, or several to select from; finetuning: a dict of other fields of `dbn.config.Finetuning`, such as
    {"hidden_dropout": 0.5, "refit": True}. None is what `dbn.config.defaults` chooses by the number of labels.
    unlabeled: the label of rows without one, which serve pre-training alone: -1 is that of scikit-learn's
    semi-supervised estimators. None takes every label for a class, and warns of −1 beside 0, 1, ….

    A tenth of the labeled rows, by class, selects epoch and learning rate (fewer than 10 rows: those of training);
    with {"refit": True} the network is then trained on all of them. Attributes: `classes_`; `network_`, a
    torch.nn.Sequential of scaled values; `stack_`, the DBN; `n_iter_`, epochs; `best_learning_rate_`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((100, 4))
    >>> y = np.where(X[:, 0] > 0.5, "high", "low")
    >>> classifier = DBNClassifier(8, n_iter=2, max_iter=3, learning_rate_init=0.1, random_state=0).fit(X, y)
    >>> classifier.classes_, classifier.predict_proba(X).shape
    (array(['high', 'low'], dtype='<U4'), (100, 2))
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
        max_iter: int | None = None,
        learning_rate_init: Any = None,
        finetuning: dict[str, Any] | None = None,
        unlabeled: Any = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            learning_rate=learning_rate,
            batch_size=batch_size,
            n_iter=n_iter,
            visible=visible,
            hidden_units=hidden_units,
            options=options,
            max_iter=max_iter,
            learning_rate_init=learning_rate_init,
            finetuning=finetuning,
            device=device,
            verbose=verbose,
            random_state=random_state,
        )
        self.unlabeled = unlabeled

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows X (N, V) and labels y (N,). InputError, a ValueError, for what cannot be used."""
        X, y = self._checked(X, y, fitting=True, ensure_min_samples=2)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        there = np.full(len(y), True) if self.unlabeled is None else y != self.unlabeled
        self.classes_, codes = np.unique(y[there], return_inverse=True)
        if self.unlabeled is None and has_minus_one(tuple(map(str, self.classes_))):
            warnings.warn(
                "y holds the class -1 beside 0, 1, …: if it stands for no label, say unlabeled=-1", stacklevel=2
            )
        if len(self.classes_) < 2:
            raise InputError(f"y has {len(self.classes_)} class, but at least two classes are needed: give more rows")
        labels = np.full(len(y), np.nan)
        labels[there] = codes
        self._train(X, labels)
        return self

    def predict_proba(self, X: Any) -> NDArray:
        """p(class | x), (N, C), columns in the order of `classes_`."""
        outputs = self._outputs(X)
        found: NDArray = self.task_.probabilities(outputs).numpy()
        return found

    def predict_log_proba(self, X: Any) -> NDArray:
        """log p(class | x), (N, C), nats."""
        found: NDArray = np.log(self.predict_proba(X))
        return found

    def predict(self, X: Any) -> NDArray:
        """The most probable class of each row, (N,)."""
        places = self.predict_proba(X).argmax(1)
        found: NDArray = self.classes_[places]
        return found


class DBNRegressor(RegressorMixin, Supervised):
    """A network that predicts numbers, starts from a stack of RBMs, and is fine-tuned by squared error.

    Parameters and attributes are those of `DBNClassifier`, without classes and rows that have no label. Targets (N,) or
    (N, T) are standardized within. A tenth of the rows, at random, selects epoch and learning rate.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((100, 4))
    >>> DBNRegressor(8, n_iter=2, max_iter=3, random_state=0).fit(X, X[:, :2]).predict(X).shape
    (100, 2)
    """

    TASK = "regress"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows X (N, V) and targets y, (N,) or (N, T). InputError, a ValueError, for what cannot be used."""
        X, y = self._checked(X, y, fitting=True, ensure_min_samples=2, multi_output=True, y_numeric=True)
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        self._train(X, y)
        return self

    def predict(self, X: Any) -> NDArray:
        """The numbers, (N,) or (N, T), in the units of the targets."""
        outputs = self._outputs(X)
        return np.asarray(self.task_.answers(outputs))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
