"""Connections between populations."""

from .native import PlainTorchWarning
from .random import FixedNum, FixedProb
from .sparse import Sparse

__all__ = ["FixedNum", "FixedProb", "PlainTorchWarning", "Sparse"]
