"""Synaptic currents: functions of the membrane potential that add up."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from .fields import Param, Parametrised, param, positive


class Current:
    """A current in pA that depends on the potential V in mV: ``I = current(V)``.

    Currents add with ``+`` to each other and to tensors (pA). Neurons take one wherever they take a tensor.

    Args:
        f: the current as a function of V.
        like: a tensor of the current's shape ``(*batch, *size)``, dtype and device, such as the conductance.

    Example:
        >>> g = torch.tensor([2.0])
        >>> I = nd.Current(lambda V: g * (10 - V), g) + 1.0
        >>> I(torch.tensor([4.0]))
        tensor([13.])
    """

    def __init__(self, f: Callable[[Tensor], Tensor], like: Tensor):
        self.f, self.like = f, like

    @property
    def shape(self) -> torch.Size:
        return self.like.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.like.dtype

    @property
    def device(self) -> torch.device:
        return self.like.device

    def __call__(self, V: Tensor) -> Tensor:
        return self.f(V)

    def __add__(self, other: Tensor | Current) -> Current:
        # a number, also one in a tensor, is meant for all neurons
        if isinstance(other, (int, float)) or (isinstance(other, Tensor) and not other.dim()):
            return Current(lambda V: self.f(V) + other, self.like)
        if self.shape != other.shape:
            raise ValueError(f"cannot add currents of shapes {tuple(self.shape)} and {tuple(other.shape)}")
        if isinstance(other, Current):
            return Current(lambda V: self.f(V) + other.f(V), self.like)
        return Current(lambda V: self.f(V) + other, self.like)

    __radd__ = __add__

    def __mul__(self, factor: Tensor | float) -> Current:
        return Current(lambda V: self.f(V) * factor, self.like)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        # torch.compile asks here for the sum of a current and a tensor
        if function not in _ADDITIONS:
            return NotImplemented
        a, b = args
        return a.__add__(b) if isinstance(a, Current) else b.__add__(a)


_ADDITIONS = (operator.add, torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)


def mean_of(g: Tensor | Current) -> Tensor:
    """A conductance, or its mean over the step if it decays within it; see `neurodyn.core.decaying`."""
    return g(g.like) if isinstance(g, Current) else g


class SynapticOutput(Parametrised):
    """Base of the maps from a conductance to a `Current`.

    The conductance is a tensor, or what a synapse with ``exact=True`` gives; see `neurodyn.core.decaying`.
    """

    may_have_batch = True


class COBA(SynapticOutput):
    r"""Conductance-based output: $I = g\,(E - V)$.

    Input: conductance g in nS, ``(*batch, *size)``. Output: a `Current` in pA.

    Example:
        >>> I = nd.COBA(E=0 * u.mV)(torch.tensor([2.0]))
        >>> I(torch.tensor([-60.0]))
        tensor([120.])
    """

    E: Param = param(unit=u.mV, doc="reversal potential")

    def forward(self, g: Tensor | Current) -> Current:
        mean = mean_of(g)
        return Current(lambda V: mean * (self.E - V), mean)


class CUBA(SynapticOutput):
    r"""Current-based output: $I = g \cdot scale$, whatever the potential.

    Input: conductance g in nS, ``(*batch, *size)``. Output: a `Current` in pA.

    Example:
        >>> I = nd.CUBA(scale=2 * u.mV)(torch.tensor([3.0]))
        >>> I(torch.tensor([-60.0]))
        tensor([6.])
    """

    scale: Param = param(1 * u.mV, doc="driving force")

    def forward(self, g: Tensor | Current) -> Current:
        return g * self.scale if isinstance(g, Current) else Current(lambda V: g * self.scale, g)


class MgBlock(SynapticOutput):
    r"""Conductance-based output with magnesium block: $I = g\,(E - V) / (1 + \frac{[Mg]}{\beta} e^{\alpha (V_0 - V)})$.

    Input: conductance g in nS, ``(*batch, *size)``, such as that of `NMDA` receptors. Output: a `Current` in pA.

    Example:
        >>> current = nd.MgBlock()(torch.tensor([1.0]))  # 1 nS
        >>> [round(current(torch.tensor([V])).item(), 2) for V in (-70.0, -20.0)]
        [2.61, 9.25]

    Source: Jahr and Stevens (1990), Voltage dependence of NMDA-activated macroscopic conductances, Journal of
    Neuroscience 10.
    """

    E: Param = param(0 * u.mV, doc="reversal potential")
    cc_Mg: Param = param(1.2 * u.mM, doc="magnesium concentration", domain=positive)
    alpha: Param = param(0.062 / u.mV, doc="steepness of the block")
    beta: Param = param(3.57 * u.mM, doc="concentration that blocks half of them at V_offset", domain=positive)
    V_offset: Param = param(0 * u.mV, doc="shift of the potential")

    def forward(self, g: Tensor | Current) -> Current:
        mean = mean_of(g)

        def current(V: Tensor) -> Tensor:
            unblocked = torch.sigmoid(self.alpha * (V - self.V_offset) - torch.log(self.cc_Mg / self.beta))
            return mean * unblocked * (self.E - V)

        return Current(current, mean)
