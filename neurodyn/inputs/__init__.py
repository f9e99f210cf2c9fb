"""Inputs: spikes at given times, random spikes, noise, and encoders of data."""

from .clock import Clock
from .encoders import DeltaEncoder, LatencyEncoder
from .noise import OU
from .poisson import PoissonEncoder, PoissonInput, PoissonSpike
from .source import Source
from .spike_time import SpikeTime

__all__ = [
    "OU",
    "Clock",
    "DeltaEncoder",
    "LatencyEncoder",
    "PoissonEncoder",
    "PoissonInput",
    "PoissonSpike",
    "Source",
    "SpikeTime",
]
