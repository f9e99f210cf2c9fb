"""Long-term plasticity: rules by which the weights of a connection change with the spikes of both sides."""

from .base import Plasticity
from .inhibitory import VogelsSprekeler
from .rates import BCM, Oja
from .reward import RewardSTDP
from .stdp import STDP
from .triplet import TripletSTDP

__all__ = ["BCM", "STDP", "Oja", "Plasticity", "RewardSTDP", "TripletSTDP", "VogelsSprekeler"]
