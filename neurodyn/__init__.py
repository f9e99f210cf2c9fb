"""neurodyn: neuro-dynamics for PyTorch.

Spiking neurons, synapses, short-term plasticity and projections as ``torch.nn`` modules, with units checked when they
are built. Start with `LIF`, `Projection` and `unroll`.
"""

from . import analysis, bitwise, distributed, init, losses, nir, online, plot, surrogate, units
from .activity import SpikeStatistics, scale_weights
from .checkpoint import CheckpointError, load, save
from .connections import (
    AllToAll,
    FixedDropout,
    FixedNum,
    FixedProb,
    LoRA,
    MaskedLinear,
    OneToOne,
    ScaledWSConv1d,
    ScaledWSConv2d,
    ScaledWSConv3d,
    ScaledWSLinear,
    SignedLinear,
    Sparse,
)
from .count import count_parameters
from .current import COBA, CUBA, Current, MgBlock, SynapticOutput
from .delay import Delay
from .delayed import narrow_delays
from .dynamics import Dynamics, UnsetState, default_dt, get_default_dt, set_default_dt
from .engine import EagerWarning, Unroll, unroll
from .eventprop import spike_times
from .explain import Explanation, explain
from .fields import Param, State, fraction, nonnegative, param, positive, state
from .inputs import OU, DeltaEncoder, LatencyEncoder, PoissonEncoder, PoissonInput, PoissonSpike, SpikeTime
from .neurons import ALIF, BRF, GIF, HH, IF, LIF, AdEx, AdLIF, ExpIF, Izhikevich, LIFRef, MorrisLecar, QuaIF
from .nir import from_nir, to_nir
from .not_a_number import NaNWarning
from .padded import last, step_mask
from .parameter_groups import parameter_groups
from .plasticity import STD, STP
from .projection import Projection, Receptor
from .readouts import LeakyRateReadout, LeakySpikeReadout
from .record import Events, Recording, Trace
from .recurrent import Recurrent
from .rnn import GRUCell, LSTMCell, MGUCell, RNNCell, URLSTMCell
from .rules import (
    BCM,
    STDP,
    CalciumPlasticity,
    Oja,
    Plasticity,
    RewardSTDP,
    SynapticScaling,
    ThresholdAdaptation,
    TripletSTDP,
    VogelsSprekeler,
    VoltageSTDP,
)
from .series import constant, series
from .silence import SilenceWarning
from .simulate import simulate
from .solve import exp_euler, phi, relax
from .states import detach_states, get_states, reset_states, set_states
from .stream import Stream
from .synapses import AMPA, NMDA, Alpha, DualExpon, Expon, GABAa
from .time_scale import TimeStepWarning

__version__ = "0.1.0"

__all__ = [
    "ALIF",
    "AMPA",
    "BCM",
    "BRF",
    "COBA",
    "CUBA",
    "GIF",
    "HH",
    "IF",
    "LIF",
    "NMDA",
    "OU",
    "STD",
    "STDP",
    "STP",
    "AdEx",
    "AdLIF",
    "AllToAll",
    "Alpha",
    "CalciumPlasticity",
    "CheckpointError",
    "Current",
    "Delay",
    "DeltaEncoder",
    "DualExpon",
    "Dynamics",
    "EagerWarning",
    "Events",
    "ExpIF",
    "Explanation",
    "Expon",
    "FixedDropout",
    "FixedNum",
    "FixedProb",
    "GABAa",
    "GRUCell",
    "Izhikevich",
    "LIFRef",
    "LSTMCell",
    "LatencyEncoder",
    "LeakyRateReadout",
    "LeakySpikeReadout",
    "LoRA",
    "MGUCell",
    "MaskedLinear",
    "MgBlock",
    "MorrisLecar",
    "NaNWarning",
    "Oja",
    "OneToOne",
    "Param",
    "Plasticity",
    "PoissonEncoder",
    "PoissonInput",
    "PoissonSpike",
    "Projection",
    "QuaIF",
    "RNNCell",
    "Receptor",
    "Recording",
    "Recurrent",
    "RewardSTDP",
    "ScaledWSConv1d",
    "ScaledWSConv2d",
    "ScaledWSConv3d",
    "ScaledWSLinear",
    "SignedLinear",
    "SilenceWarning",
    "Sparse",
    "SpikeStatistics",
    "SpikeTime",
    "State",
    "Stream",
    "SynapticOutput",
    "SynapticScaling",
    "ThresholdAdaptation",
    "TimeStepWarning",
    "Trace",
    "TripletSTDP",
    "URLSTMCell",
    "Unroll",
    "UnsetState",
    "VogelsSprekeler",
    "VoltageSTDP",
    "analysis",
    "bitwise",
    "constant",
    "count_parameters",
    "default_dt",
    "detach_states",
    "distributed",
    "exp_euler",
    "explain",
    "fraction",
    "from_nir",
    "get_default_dt",
    "get_states",
    "init",
    "last",
    "load",
    "losses",
    "narrow_delays",
    "nir",
    "nonnegative",
    "online",
    "param",
    "parameter_groups",
    "phi",
    "plot",
    "positive",
    "relax",
    "reset_states",
    "save",
    "scale_weights",
    "series",
    "set_default_dt",
    "set_states",
    "simulate",
    "spike_times",
    "state",
    "step_mask",
    "surrogate",
    "to_nir",
    "units",
    "unroll",
]
