"""Kinds of units: `base` says what each states, and each has a file of its own."""

from dbn.models.units.base import Units
from dbn.models.units.bernoulli import Bernoulli
from dbn.models.units.gaussian import Gaussian

__all__ = ["UNITS", "Bernoulli", "Gaussian", "Units"]

UNITS: dict[str, type[Units]] = {units.kind: units for units in (Bernoulli, Gaussian)}
"""Every unit type by its name in files and on the command line."""
