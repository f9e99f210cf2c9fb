"""Neuron models."""

from .adex import AdEx
from .adlif import AdLIF
from .alif import ALIF
from .brf import BRF
from .exp_if import ExpIF
from .gif import GIF
from .hh import HH
from .integrate_and_fire import IF
from .izhikevich import Izhikevich
from .lif import LIF
from .lif_ref import LIFRef
from .morris_lecar import MorrisLecar
from .pinsky_rinzel import PinskyRinzel
from .qua_if import QuaIF
from .three_compartments import ThreeCompartments

__all__ = [
    "ALIF",
    "BRF",
    "GIF",
    "HH",
    "IF",
    "LIF",
    "AdEx",
    "AdLIF",
    "ExpIF",
    "Izhikevich",
    "LIFRef",
    "MorrisLecar",
    "PinskyRinzel",
    "QuaIF",
    "ThreeCompartments",
]
