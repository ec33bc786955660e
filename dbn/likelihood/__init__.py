"""log p, log Z and their gradient: exact for small RBMs, by annealed importance sampling, and lower bounds of a DBN."""

from dbn.likelihood.ais import ais, bracket, reverse_ais
from dbn.likelihood.conditional import conditional_log_likelihood
from dbn.likelihood.dbn_bound import dbn_bound
from dbn.likelihood.estimates import Bracket, LogZ
from dbn.likelihood.exact import divergence, log_likelihood, log_partition, sample, set_exact_gradient
from dbn.likelihood.gradient import Offsets, set_gradient
from dbn.likelihood.pseudo_likelihood import pseudo_log_likelihood

# `ais` and `dbn_bound` here are the functions; the modules of those names are imported from as `dbn.likelihood.ais`.
__all__ = [
    "Bracket",
    "LogZ",
    "Offsets",
    "ais",
    "bracket",
    "conditional_log_likelihood",
    "dbn_bound",
    "divergence",
    "log_likelihood",
    "log_partition",
    "pseudo_log_likelihood",
    "reverse_ais",
    "sample",
    "set_exact_gradient",
    "set_gradient",
]
