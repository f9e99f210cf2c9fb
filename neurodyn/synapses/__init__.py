"""Synapse models."""

from .alpha import Alpha
from .ampa import AMPA, GABAa
from .dual_expon import DualExpon
from .expon import Expon
from .nmda import NMDA

__all__ = ["AMPA", "NMDA", "Alpha", "DualExpon", "Expon", "GABAa"]
