"""Currents and conductances that decay within a step, and what a linear membrane feels of them: exact, not held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .current import Current
from .precise import precise
from .solve import phi, phi_slope


class Part(NamedTuple):
    r"""$(x + y\,s/\tau)\,e^{-s/\tau}$ at the time s after the beginning of the step; without y a plain exponential."""

    x: Tensor
    tau: Tensor
    y: Tensor | None = None


class Decaying(Current):
    r"""A current in pA, or a conductance in nS, that decays within the step: a sum of parts, and what stays constant.

    Linear synapses with ``exact=True`` give it. It can be used wherever a `Current` can; what is made of it is

    - exact in a leaky membrane (`IF`, `LIF`, `LIFRef`, `ALIF`): see `felt` (Rotter and Diesmann 1999);
    - its mean over the step anywhere else, in other neurons and in `COBA` and `MgBlock`, so that the charge is right.

    Args:
        parts: what decays.
        dt: time step in ms.
        rest: what does not: a tensor, a `Current` that depends on V, or None.

    Source: Rotter and Diesmann (1999), Exact digital simulation of time-invariant linear systems with applications to
    neuronal modeling, Biological Cybernetics 81.
    """

    def __init__(self, parts: Sequence[Part], dt: float, rest: Tensor | Current | None = None):
        # no super().__init__, whose f would hold this object and all its tensors until the garbage collector comes
        self.parts, self.dt, self.rest, self.like = tuple(parts), dt, rest, parts[0].x

    def felt(self, leak: Tensor | float) -> Any:
        r"""The constant that moves a membrane with this leak over the step as far as the decaying one does.

        With $\lambda$ the leak it is
        $\int_0^{dt} e^{-\lambda (dt - s)} I(s)\,ds \,/ \int_0^{dt} e^{-\lambda (dt - s)}\,ds$; without a leak the mean.

        Args:
            leak: 1 / tau of the membrane, in 1/ms.

        Returns:
            A tensor, or a `Current` if a part of the whole depends on V.
        """
        total: Any = self.rest
        for x, tau, y in self.parts:
            kind = precise(x.dtype)
            a = self.dt / tau.to(kind)
            b = leak.to(kind) * self.dt if isinstance(leak, Tensor) else torch.full_like(a, leak * self.dt)
            of_x, of_y = _weights(a, b)
            felt = of_x.to(x.dtype) * x if y is None else of_x.to(x.dtype) * x + of_y.to(x.dtype) * y
            total = felt if total is None else total + felt
        return total

    def __call__(self, V: Tensor) -> Tensor:
        mean = self.felt(0.0)
        return mean(V) if isinstance(mean, Current) else mean

    def __add__(self, other: Any) -> Decaying:
        if isinstance(other, (int, float)):
            other = torch.full_like(self.like, other)
        elif isinstance(other, Tensor) and not other.dim():  # one number for all neurons
            other = other.expand(self.shape)
        if self.shape != other.shape:
            raise ValueError(f"cannot add currents of shapes {tuple(self.shape)} and {tuple(other.shape)}")
        parts, rest = (other.parts, other.rest) if isinstance(other, Decaying) else ((), other)
        both = [term for term in (self.rest, rest) if term is not None]
        return Decaying(self.parts + parts, self.dt, both[0] + both[1] if len(both) == 2 else (both or [None])[0])

    __radd__ = __add__

    def __mul__(self, factor: Tensor | float) -> Decaying:
        """Times a constant, such as a driving force."""
        parts = [Part(x * factor, tau, None if y is None else y * factor) for x, tau, y in self.parts]
        return Decaying(parts, self.dt, None if self.rest is None else self.rest * factor)


def _weights(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r"""What a membrane feels of $e^{-a\theta}$ and of $a\theta\,e^{-a\theta}$, theta from 0 to 1, with the leak b.

    The integrals of both, times $e^{-b (1 - \theta)}$. Written with the slower of the two decays in front, so that no
    exponent is positive, however long the step is.
    """
    fast = b > a  # a fast membrane
    z = torch.where(fast, a - b, b - a)
    even, rising = phi(z), phi_slope(z)
    slower = torch.exp(-torch.where(fast, a, b)) / phi(-b)
    return slower * even, a * slower * torch.where(fast, even - rising, rising)
