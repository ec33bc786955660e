"""Which training runs of a comparison are trained at the same time: the configuration and the kind of device decide."""

import logging
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from torch import optim

from dbn.finetuning.backward import is_known
from dbn.finetuning.problem import Problem
from dbn.initializers.arms import Arm
from dbn.models.mlp import meta_mlp
from dbn.tasks.base import Task
from dbn.training import OPTIMIZERS, distributed
from dbn.training.sgd import SGD

LOGGER = logging.getLogger(__name__)

LARGEST_ON_CPU = 5 * 10**6
"""Batch size × parameters of a fit, up to which a CPU trains several in less time together: see docs/speed.md."""
MOST, PARAMETERS = 200, 10**8
"""With --together auto, fits of a group, each with a file of curves that is open, and parameters of all of them: about
2 GB with gradients, momentum and the best weights."""
SEPARABLE = SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.NAdam, optim.Adagrad
"""Optimizers that treat every number by itself, so that one of them can serve several fits."""


def grouped(problem: Problem, arms: Iterable[Arm]) -> list[tuple[list[Arm], int]]:
    """Neighboring arms whose runs are trained together, and how many runs at once."""
    groups: list[tuple[list[Arm], int]] = []
    for arm in arms:
        at_once = _fits_at_once(problem, arm)
        others, n = groups[-1] if groups else ([], 1)
        if min(n, at_once) > 1 and problem.description(others[0]) == problem.description(arm):
            others.append(arm)
        else:
            groups.append(([arm], at_once))
    return groups


def _fits_at_once(problem: Problem, arm: Arm) -> int:
    config = problem.config
    if config.together == 1:
        return 1
    if why := _why_alone(problem, arm):
        _log(why)
        return 1
    if config.together != "auto":
        return config.together
    parameters = sum((inputs + 1) * outputs for inputs, outputs in pairwise(problem.sizes))
    if problem.device.type == "cpu" and config.batch_size * parameters > LARGEST_ON_CPU:
        return 1
    return max(1, min(MOST, PARAMETERS // parameters))


def _why_alone(problem: Problem, arm: Arm) -> str:
    """Why runs of the arm are trained one by one, or ""."""
    if distributed.size() > 1:
        return "several processes share each"
    if problem.config.pseudo_labels is not None:
        return "with --pseudo-labels each has examples of its own"
    if OPTIMIZERS[problem.config.optimizer] not in SEPARABLE:
        return f"the optimizer {problem.config.optimizer} may mix their parameters"
    if type(problem.task).losses is Task.losses:
        return f"{problem.task.name} gives no losses of single examples"
    if not is_known(meta_mlp(problem.description(arm))):
        return f"{arm.name} has other layers than linear ones and plain activations"
    return ""


@cache
def _log(why: str) -> None:
    LOGGER.warning("runs of fine-tuning are trained one by one in spite of --together: %s", why)
