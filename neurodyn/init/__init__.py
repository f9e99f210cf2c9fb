"""Initialisers with units: ``f(size) -> quantity``, for any parameter of a model and for weights.

``nd.LIF(100, tau=nd.init.Normal(20 * u.ms, 2 * u.ms))`` draws one value per neuron, and
``nd.AllToAll(50, 20, weight=nd.init.KaimingNormal(unit=u.nS))`` a matrix. `fluctuation_driven_` sets the weights of a
whole network, those of torch.nn too.
"""

from .fluctuation import fluctuation_driven_
from .values import Constant, Exponential, Gamma, LogNormal, Normal, TruncatedNormal, Uniform
from .weights import (
    DeltaOrthogonal,
    Identity,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

__all__ = [
    "Constant",
    "DeltaOrthogonal",
    "Exponential",
    "Gamma",
    "Identity",
    "KaimingNormal",
    "KaimingUniform",
    "LecunNormal",
    "LecunUniform",
    "LogNormal",
    "Normal",
    "Orthogonal",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "fluctuation_driven_",
]
