"""Integrate-and-fire."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, state
from .base import Leaky, integrate


class IF(Leaky):
    r"""Integrate-and-fire neuron that rests at, leaks to and resets to 0 mV.

    $\tau\,\dot V = -V + R\,I$; then ``delta`` is added; where $V \ge V_{th}$ the neuron spikes and V is reset in the
    same step: V_th is subtracted (soft), or V becomes 0 (hard). It is a `LIF` with V_rest = V_reset = 0. As in
    brainstate 0.1.3 there is a leak, which the name does not say; a large tau with R in proportion makes it small.

    R is 1/(1 - exp(-dt/tau)) Gohm if it is not given: an input of 1 pA for one step moves V by 1 mV.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Abbott (1999), Lapicque's introduction of the integrate-and-fire model neuron (1907), Brain Research
    Bulletin 50.

    Example:
        >>> neuron = nd.IF(2, R=1 * u.Gohm, reset="hard")
        >>> I = torch.tensor([0.9, 1.1])
        >>> sum(neuron(I) for _ in range(100))
        tensor([0., 8.])
    """

    V_th: Param = param(1 * u.mV, doc="threshold")
    V_reset = 0.0

    V: State = state(default=0 * u.mV, alias="V_initializer")

    def step(self, I: Tensor | Current, V: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        V = integrate(V, I, V_rest=0.0, R=self.R, tau=self.tau, dt=self.dt)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset)
