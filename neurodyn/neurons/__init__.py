"""Neuron models."""

from .adex import AdEx
from .alif import ALIF
from .exp_if import ExpIF
from .gif import GIF
from .hh import HH
from .integrate_and_fire import IF
from .izhikevich import Izhikevich
from .lif import LIF
from .lif_ref import LIFRef
from .morris_lecar import MorrisLecar
from .qua_if import QuaIF

__all__ = ["ALIF", "GIF", "HH", "IF", "LIF", "AdEx", "ExpIF", "Izhikevich", "LIFRef", "MorrisLecar", "QuaIF"]
