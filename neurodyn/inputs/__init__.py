"""Inputs: spikes at given times, random spikes, and encoders of data."""

from .encoders import DeltaEncoder, LatencyEncoder
from .poisson import PoissonEncoder, PoissonInput, PoissonSpike
from .source import Source
from .spike_time import SpikeTime

__all__ = [
    "DeltaEncoder",
    "LatencyEncoder",
    "PoissonEncoder",
    "PoissonInput",
    "PoissonSpike",
    "Source",
    "SpikeTime",
]
