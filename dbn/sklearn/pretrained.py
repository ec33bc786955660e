"""What the estimators share: checked rows, options, and the stack that is pre-trained on them."""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from dbn.config.pretraining import Pretraining
from dbn.config.validation import several
from dbn.data.checks import rows_of
from dbn.data.objects import as_numbers
from dbn.data.rows import in_memory
from dbn.data.splits import Splits, unsplit
from dbn.errors import InputError, naming_arguments
from dbn.models.dbn import DBN
from dbn.models.scaling import Scaling
from dbn.models.values import as_float
from dbn.pretraining.pretrain import unlabeled
from dbn.pretraining.stack import pretrain_stack
from dbn.registry import suggestion
from dbn.training.device import pick_device

KINDS = (np.float64, np.float32, np.uint8)
"""What arrays are kept as; all others become the first."""
ROWS_AT_ONCE = 2000
OUTSIDE = "X has values from {:g} to {:g}, but {} values in [0, 1]: scale them, as by MinMaxScaler(clip=True)"


class Pretrained(BaseEstimator):
    """An estimator with a stack of RBMs, `stack_`; parameters are documented by its subclasses."""

    stack_: DBN
    SIZES = "hidden_layer_sizes"
    """The parameter that has the sizes of the hidden layers."""

    def _checked(self, X: Any, y: Any = "no_validation", *, fitting: bool, **more: Any) -> Any:
        """The arrays as scikit-learn checks them, sparse ones as they are."""
        if not fitting:
            check_is_fitted(self)
        return validate_data(self, X, y, reset=fitting, dtype=KINDS, accept_sparse="csr", **more)

    def _visible(self, splits: Splits) -> str:
        """The type of the visible units, by the rows unless it is given."""
        least, greatest = (as_float(end, splits.divisor).item() for end in splits.train.x.aminmax())
        fractions = least >= 0 and greatest <= 1
        if self.visible == "auto":
            raise InputError(
                "visible='auto' is for tables with text: leave visible out, which looks at the values of X"
            )
        if self.visible == "bernoulli" and not fractions:
            raise InputError(OUTSIDE.format(least, greatest, "Bernoulli units need") + ", or leave visible out")
        return self.visible or ("bernoulli" if fractions else "gaussian")

    def _pretraining(self, splits: Splits, visible: str, **chosen: Any) -> Pretraining:
        """The options of pre-training on these rows."""
        sizes = getattr(self, self.SIZES)
        own = {
            "hidden": None if sizes is None else several(sizes),
            "epochs": self.n_iter,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "visible": visible,
            "seed": self._seed,
            **{name: getattr(self, name) for name in ("estimator", "hidden_units") if hasattr(self, name)},
            **chosen,
        }
        given = {name: value for name, value in own.items() if value is not None}
        config = Pretraining(**checked_options("options", self.options, Pretraining, given)).for_data(
            *splits.train.x.shape
        )
        if "measure_every" in (self.options or {}):
            return config
        # Nothing is selected by measurements, which are made once, for the warnings that follow from them.
        return replace(config, measure_every=max(config.epochs))

    def _begin(self) -> None:
        """Draw the seed of all that is random."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._draws = 0

    @property
    def _names(self) -> dict[str, str]:
        return {"hidden": self.SIZES, "epochs": "n_iter"}

    def _pretrain(self, splits: Splits) -> DBN:
        """The stack, trained on all rows of `splits.train`, on the CPU."""
        self._begin()
        with naming_arguments(), renamed(self._names):
            config = self._pretraining(splits, self._visible(splits))
            data = unlabeled(splits, config, pick_device(self.device))._replace(valid=None)
            stack = pretrain_stack(data, config, progress=bool(self.verbose))
        return stack.cpu()

    def _states(self, X: Any) -> tuple[Tensor, Any]:
        """States of the visible units, (N, V), and the type of what is made of them, that of X if it is a float."""
        X = self._checked(X, fitting=False)
        kind = X.dtype if X.dtype.kind == "f" else np.dtype(np.float32)
        with naming_arguments():
            rows = in_memory(rows_of("X", "x", as_numbers(X)))
        return self._scaling(rows)(rows).to(TORCH[kind]), kind

    def _scaling(self, rows: Tensor) -> Scaling:
        """That of the stack for these rows; InputError for rows of another scale."""
        least, greatest = (end.item() for end in rows.aminmax())
        if self.stack_.takes_fractions and rows.is_floating_point() and (least < 0 or greatest > 1):
            raise InputError(OUTSIDE.format(least, greatest, "the stack was trained on"))
        with naming_arguments():
            scaling: Scaling = self.stack_.match(rows, "X", by_row=True).scaling
        return scaling

    def _model(self, kind: Any) -> DBN:
        """The stack in the type of the results."""
        return self.stack_ if kind == np.float32 else copy.deepcopy(self.stack_).to(TORCH[kind])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


TORCH = {np.dtype(np.float64): torch.float64, np.dtype(np.float32): torch.float32}


def rows_in(X: NDArray, y: Any = None, **reading: Any) -> Splits:
    """Checked arrays as the examples of training, all of them."""
    with naming_arguments():
        return unsplit("X", X, y, **reading)


@torch.no_grad()
def in_parts(function: Any, rows: Tensor) -> NDArray:
    """function(rows), some of them at a time."""
    found: NDArray = torch.cat([function(part) for part in rows.split(ROWS_AT_ONCE)]).numpy()
    return found


def checked_options(what: str, options: Any, config: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` and the options of the parameter `what`; InputError for those that are none or are `given` too."""
    if not isinstance(options or {}, Mapping):
        raise InputError(f"{what} must be a dict of names and values, not {options!r}")
    known = [each.name for each in fields(config)]
    for name in options or {}:
        if name not in known:
            raise InputError(f"{what} has no entry {name!r}{suggestion(name, known)}")
        if name in given:
            raise InputError(f"{what} has {name!r}, which is a parameter of its own: set that")
    return {**given, **(options or {})}


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """InputErrors within call options by these names."""
    try:
        yield
    except InputError as error:
        said = re.sub(
            r"--([a-z-]+)",
            lambda found: "--" + names.get(found[1], found[1]).replace("_", "-"),
            str(error),
        )
        error.args = (said,)
        raise
