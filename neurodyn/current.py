"""Synaptic currents: functions of the membrane potential that add up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import units as u
from .fields import Parametrised, param


class Current:
    """A current in pA that depends on the potential V in mV: ``I = current(V)``.

    Currents add with ``+`` to each other and to tensors (pA). Neurons take one wherever they take a tensor.

    Args:
        f: the current as a function of V.
        like: a tensor of the current's shape ``(*batch, *size)``, dtype and device, such as the conductance.
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
        if isinstance(other, (int, float)):
            return Current(lambda V: self.f(V) + other, self.like)
        if self.shape != other.shape:
            raise ValueError(f"cannot add currents of shapes {tuple(self.shape)} and {tuple(other.shape)}")
        if isinstance(other, Current):
            return Current(lambda V: self.f(V) + other.f(V), self.like)
        return Current(lambda V: self.f(V) + other, self.like)

    __radd__ = __add__


class SynapticOutput(Parametrised):
    """Base of the maps from a conductance to a `Current`."""


class COBA(SynapticOutput):
    r"""Conductance-based output: $I = g\,(E - V)$.

    Input: conductance g in nS, ``(*batch, *size)``. Output: a `Current` in pA.

    Args:
        E: reversal potential, required (mV).
    """

    E: Tensor = param(unit=u.mV)

    def forward(self, g: Tensor) -> Current:
        return Current(lambda V: g * (self.E - V), g)


class CUBA(SynapticOutput):
    r"""Current-based output: $I = g \cdot scale$, whatever the potential.

    Input: conductance g in nS, ``(*batch, *size)``. Output: a `Current` in pA.

    Args:
        scale: driving force (1 mV).
    """

    scale: Tensor = param(1 * u.mV)

    def forward(self, g: Tensor) -> Current:
        return Current(lambda V: g * self.scale, g)
