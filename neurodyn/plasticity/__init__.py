"""Short-term plasticity."""

from .stp import STD, STP

__all__ = ["STD", "STP"]
