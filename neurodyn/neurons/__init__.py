"""Neuron models."""

from .lif import LIF

__all__ = ["LIF"]
