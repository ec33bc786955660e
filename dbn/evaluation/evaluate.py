"""Evaluate a DBN: log Z per layer, log-likelihoods or bounds, and how reliable they are.

A figure that depends on log Z is given at both ends of log Z's interval: it is as optimistic as that.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dbn.config.evaluation import EvaluateConfig
from dbn.data.checks import Array
from dbn.errors import InputError, naming_arguments
from dbn.evaluation.examples import evaluation_data
from dbn.evaluation.external_rbm import read_model
from dbn.evaluation.measure import evaluate_stack
from dbn.evaluation.report import evaluation_text
from dbn.models import DBN, RBM, Scaling
from dbn.training.device import pick_device


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Results of an evaluation, in nats; `str()` gives the tables, `to_dict()` every number."""

    found: dict[str, Any]

    @property
    def log_z(self) -> float:
        """log Z of the top layer."""
        return float(self.found["log_z"])

    @property
    def log_z_interval(self) -> tuple[float, float]:
        """ln(Ẑ ± 3 standard errors) of AIS; both ends are log Z where it is exact."""
        lower, upper = self.found["log_z_interval"]
        return lower, upper

    @property
    def test_log_likelihood(self) -> float | None:
        """Mean over the test rows, nats per row; None for several layers, which have a `test_bound`."""
        value: float | None = self.found["test_log_likelihood"]
        return value

    @property
    def test_bound(self) -> float | None:
        """Lower bound on it for a model of several layers; None for one layer."""
        value: float | None = self.found["test_bound"]
        return value

    @property
    def warnings(self) -> list[str]:
        """What makes the numbers doubtful."""
        return list(self.found["warnings"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as result.json of torch-dbn evaluate holds it: see `evaluate_stack`."""
        return copy.deepcopy(self.found)

    def __repr__(self) -> str:
        return evaluation_text(self.found)


def evaluate(
    model: RBM | DBN | Path | str,
    test: Array,
    train: Array | None = None,
    exact: bool = False,
    binarize: Literal["threshold", "sample", "fixed"] | None = None,
    seed: int = 0,
    *,
    ais: int | Literal["published", "quick"] | None = None,
    chains: int | None = None,
    reverse: bool = True,
    device: str = "auto",
    progress: bool | None = False,
    divisor: float | None = None,
    sample_weight: Array | str | None = None,
) -> Evaluation:
    """log Z of every layer, and the log-likelihood of rows, or its lower bound for several layers.

    Salakhutdinov & Murray (2008), "On the quantitative analysis of deep belief networks".

    model: an RBM, a DBN, the run folder of one, or a file of either. An RBM takes rows as its units do, bytes divided
    by 255; a DBN scales rows as in its training.
    test, train: (N, V) or images; rows as they are stored. AIS is based on the means of `train`, else of `test`.
    divisor: of the rows; by default that of training, and where it is not certain which, an error says so.
    exact: sum over every state of the smaller side in place of AIS; feasible up to 2²⁵ states.
    binarize: how grey levels become 0 or 1 where units are binary; left out, as a run folder was trained.
    ais: temperatures of AIS, a number, "quick" (1,001) or "published" (14,501, the default); chains: 100 by default;
    reverse: anneal back as well, which takes three times the work and shows whether chains mix.
    sample_weight: of the test rows, (N,), by which means over them are weighted, or the name of a column of frames; a
    standard error takes a row for one observation, whatever its weight.
    progress: show bars, in a notebook too; None shows them where standard error is a terminal.

    >>> import torch
    >>> from dbn.models import Bernoulli
    >>> rbm = RBM(Bernoulli(4), Bernoulli(3))
    >>> _ = torch.nn.init.zeros_(rbm.weight)
    >>> found = evaluate(rbm, torch.eye(4), exact=True)
    >>> f"{found.log_z:.4f} {found.test_log_likelihood:.4f}"  # 7 ln 2 and −4 ln 2
    '4.8520 -2.7726'

    Raises:
        InputError: options or rows that cannot be used, rows that do not fit the model or its units, a model that is
            too large for exact values, or a file that cannot be read.
    """
    with naming_arguments():
        path = Path(model) if isinstance(model, str | Path) else None
        config = EvaluateConfig(
            run=path or Path(), exact=exact, binarize=binarize, seed=seed, ais=ais, chains=chains, reverse=reverse,
            device=device, divisor=divisor,
        )  # fmt: skip
        place = pick_device(device)
        stack = read_model(path) if path else copied(model)
        data = evaluation_data(stack, test, train, config, from_run=path is not None, sample_weight=sample_weight)
        return Evaluation(evaluate_stack(stack.to(place), data.to(place), config, progress=progress))


def copied(model: Any) -> DBN:
    """On a device of its own, so that the caller's model stays where it is."""
    if not isinstance(model, RBM | DBN):
        raise InputError(f"model must be an RBM, a DBN or the path of one, not {type(model).__name__}")
    model = copy.deepcopy(model)
    return (DBN([model], Scaling(1.0)) if isinstance(model, RBM) else model).eval()
