"""Plasticity: short-term (STP, STD), and rules by which weights change with the spikes of both sides."""

from .base import Plasticity
from .calcium import CalciumPlasticity
from .homeostasis import SynapticScaling, ThresholdAdaptation
from .inhibitory import VogelsSprekeler
from .rates import BCM, Oja
from .reward import RewardSTDP
from .stdp import STDP
from .stp import STD, STP
from .stp_inactive import STPInactive
from .triplet import TripletSTDP
from .voltage import VoltageSTDP

__all__ = [
    "BCM",
    "STD",
    "STDP",
    "STP",
    "CalciumPlasticity",
    "Oja",
    "Plasticity",
    "RewardSTDP",
    "STPInactive",
    "SynapticScaling",
    "ThresholdAdaptation",
    "TripletSTDP",
    "VogelsSprekeler",
    "VoltageSTDP",
]
