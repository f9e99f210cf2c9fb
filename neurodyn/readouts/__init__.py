"""Readouts: from spikes to the numbers that a loss takes."""

from .leaky import LeakyRateReadout, LeakySpike, LeakySpikeReadout

__all__ = ["LeakyRateReadout", "LeakySpike", "LeakySpikeReadout"]
