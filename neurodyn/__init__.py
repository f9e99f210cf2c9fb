"""neurodyn: neuro-dynamics for PyTorch.

Spiking neurons, synapses, short-term plasticity and projections as ``torch.nn`` modules, with units checked when they
are built. Start with `LIF`, `Projection` and `unroll`.
"""

import sys
from typing import TYPE_CHECKING, Any

from . import analysis, bitwise, data, distributed, init, losses, nir, online, plot, surrogate, units
from .checkpoint import CheckpointError, load, save
from .connections import (
    AllToAll,
    DistanceProb,
    FixedDropout,
    FixedNum,
    FixedProb,
    FixedTotal,
    GapJunction,
    LoRA,
    MaskedLinear,
    OfDistance,
    OneToOne,
    ScaledWSConv1d,
    ScaledWSConv2d,
    ScaledWSConv3d,
    ScaledWSLinear,
    SignedLinear,
    Sparse,
)
from .core.current import COBA, CUBA, Current, MgBlock, SynapticOutput
from .core.dynamics import Dynamics, UnsetState, default_dt, get_default_dt, set_default_dt
from .core.fields import Param, State, fraction, nonnegative, param, positive, state
from .core.not_a_number import NaNWarning
from .core.silence import SilenceWarning
from .core.solve import exp_euler, phi, relax
from .core.states import detach_states, get_states, reset_states, set_states
from .core.time_scale import TimeStepWarning
from .delays.delay import Delay
from .delays.delayed import narrow_delays
from .eventprop.eventprop import spike_times
from .inputs import OU, Clock, DeltaEncoder, LatencyEncoder, PoissonEncoder, PoissonInput, PoissonSpike, SpikeTime
from .inspection.activity import SpikeStatistics, scale_weights
from .inspection.explain import Explanation, explain
from .loop import EagerWarning, Unroll, unroll
from .networks.count import count_parameters
from .networks.padded import last, step_mask
from .networks.parameter_groups import parameter_groups
from .networks.projection import Projection, Receptor
from .networks.recurrent import Recurrent
from .networks.rnn import GRUCell, LSTMCell, MGUCell, RNNCell, URLSTMCell
from .neurons import (
    ALIF,
    BRF,
    GIF,
    HH,
    IF,
    LIF,
    AdEx,
    AdLIF,
    ExpIF,
    Izhikevich,
    LIFRef,
    MorrisLecar,
    PinskyRinzel,
    QuaIF,
    ThreeCompartments,
)
from .neurons.above_threshold import ThresholdWarning
from .nir import from_nir, to_nir
from .plasticity import (
    BCM,
    STD,
    STDP,
    STP,
    CalciumPlasticity,
    Oja,
    Plasticity,
    RewardSTDP,
    STPInactive,
    SynapticScaling,
    ThresholdAdaptation,
    TripletSTDP,
    VogelsSprekeler,
    VoltageSTDP,
)
from .readouts import LeakyRateReadout, LeakySpikeReadout
from .record import Events, Recording, Trace
from .run.population import PopulationMean, PopulationRate
from .run.series import constant, series
from .run.simulate import simulate
from .run.stream import Stream
from .synapses import AMPA, NMDA, Alpha, DualExpon, Expon, GABAa

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
    "Clock",
    "Current",
    "Delay",
    "DeltaEncoder",
    "DistanceProb",
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
    "FixedTotal",
    "GABAa",
    "GRUCell",
    "GapJunction",
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
    "OfDistance",
    "Oja",
    "OneToOne",
    "Param",
    "PinskyRinzel",
    "Plasticity",
    "PoissonEncoder",
    "PoissonInput",
    "PoissonSpike",
    "PopulationMean",
    "PopulationRate",
    "Projection",
    "QuaIF",
    "RNNCell",
    "Receptor",
    "Recording",
    "Recurrent",
    "RewardSTDP",
    "STPInactive",
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
    "ThreeCompartments",
    "ThresholdAdaptation",
    "ThresholdWarning",
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
    "data",
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

if not TYPE_CHECKING:  # which would take every name for one

    def __getattr__(name: str) -> Any:
        spaces = (analysis, losses, plot, init, surrogate, data, online, nir, distributed, bitwise, units)
        found = [space.__name__ for space in spaces if not name.startswith("_") and hasattr(space, name)]
        hint = f"; there is {found[0].replace('neurodyn', 'nd', 1)}.{name}" if found else ""
        raise AttributeError(f"neurodyn has no {name}{hint}", name=name, obj=sys.modules[__name__])
