"""Readouts: from spikes to the numbers that a loss takes."""

from .leaky import LeakyRateReadout

__all__ = ["LeakyRateReadout"]
