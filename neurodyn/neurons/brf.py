"""Balanced resonate-and-fire."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Domain, Param, State, nonnegative, param, positive, show, state
from ..core.solve import relax
from .base import Firing, current


class BRF(Firing):
    r"""Balanced resonate-and-fire neuron: an oscillator that spikes at its peaks and cannot diverge.

    In one step, all from the states before it:
    $V \gets V + dt\,(b V - \omega w + I/C)$ and $w \gets w + dt\,(\omega V + b w)$ with
    $b = p_\omega - b_{offset} - \gamma q$ and $p_\omega = (\sqrt{1 - (dt\,\omega)^2} - 1)/dt$; then ``delta`` is added
    to V; where $V \ge V_{th} + \beta q$ the neuron spikes. $q \gets q\,e^{-dt/\tau_q}$, plus 1 at a spike. There is no
    reset: q raises the threshold and damps the oscillation.

    p_omega is the b at which a step of Euler's method turns the pair (V, w) without making it longer, the boundary of
    divergence. So dt belongs to the model, and dt omega must be below 1. A learned omega counts as at most 0.99/dt,
    and its gradient leads back. omega is in radians, 2 pi times the frequency: 0.1/ms is 16 Hz.

    The source has dt = 0.01 and gamma = beta = 1: per step its numbers are those of dt = 1 ms with omega and b_offset
    a hundredth of its own in 1/ms, gamma = 0.01/ms, and C = 100 pF, where here 1 pA moves V by 1 mV in 1 ms.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V and w in mV, and q.

    Source: Higuchi, Kairat, Bohte and Otte (2024), Balanced resonate-and-fire neurons, ICML.

    Example:
        >>> neuron = nd.BRF(2, omega=u.quantity(torch.tensor([0.1, 0.2]), "1/ms"))
        >>> t = torch.arange(600.0)  # ms; a current of 0.1/ms makes the first one resonate
        >>> nd.unroll(neuron, 0.3 * torch.sin(0.1 * t).unsqueeze(-1).expand(-1, 2), compile=False).sum(0)
        tensor([98.,  1.])
    """

    omega: Param = param(0.1 / u.ms, doc="angular frequency, in radians", domain=positive)
    b_offset: Param = param(0.01 / u.ms, doc="damping", domain=nonnegative)
    gamma: Param = param(0.01 / u.ms, doc="damping for each unit of q", domain=nonnegative)
    C: Param = param(1 * u.pF, doc="capacitance of the membrane", domain=positive)
    tau_q: Param = param(-1 / math.log(0.9) * u.ms, doc="time constant of q", domain=positive)
    beta: Param = param(1 * u.mV, doc="rise of the threshold for each unit of q")
    V_th: Param = param(1 * u.mV, doc="threshold at q = 0")
    V_reset = 0.0  # where the oscillation rests
    fires_while_above = True

    V: State = state(default=0 * u.mV, alias="V_initializer")
    w: State = state(default=0 * u.mV, alias="w_initializer")
    q: State = state(default=0.0, alias="q_initializer")

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, size: int | tuple[int, ...], **values: Any):
            super().__init__(size, **values)
            omega, domain = self.omega.detach(), self.domain_of("omega")
            if domain is not None and not bool(domain.contains(omega).all()):
                got = show(omega, self.params["omega"].unit)
                raise ValueError(
                    f"{self._label()}: omega must be {domain.name}, got {got}; lower it, or give a shorter dt"
                )

    def domain_of(self, name: str) -> Domain | None:
        """omega is also below 1/dt, where a step turns by 90 degrees."""
        if name != "omega" or not hasattr(self, "dt"):
            return super().domain_of(name)
        high, label = 1 / self.dt, f"positive and below 1/dt = {1 / self.dt:g} / ms"
        return Domain(label, lambda x: (x > 0) & (x < high), positive.to_raw, positive.from_raw)

    def step(
        self, I: Tensor | Current, V: Tensor, w: Tensor, q: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        turn = self.dt * self.omega
        turn = turn + (turn.clamp(max=0.99) - turn).detach()
        growth = -turn * turn / (1 + torch.sqrt(1 - turn * turn))  # dt p_omega, without the cancellation
        growth = growth - self.dt * (self.b_offset + self.gamma * q)
        new = V + growth * V - turn * w + self.dt / self.C * current(I, V)
        w = w + turn * V + growth * w
        if delta is not None:
            new = new + delta
        spike = self.fire(new - self.V_th - self.beta * q)
        return spike, new, w, relax(q, 0.0, self.tau_q, self.dt) + spike
