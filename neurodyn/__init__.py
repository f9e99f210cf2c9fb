"""neurodyn: neuro-dynamics for PyTorch."""

from . import surrogate, units
from .current import COBA, CUBA, Current
from .dynamics import Dynamics, default_dt, get_default_dt, set_default_dt
from .engine import EagerWarning, Unroll, unroll
from .neurons import LIF
from .plasticity import STD, STP
from .solve import exp_euler, phi, relax
from .states import detach_states, get_states, reset_states, set_states
from .synapses import Expon
