"""Synapse models."""

from .expon import Expon

__all__ = ["Expon"]
