"""Leaky integrate-and-fire."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, state
from .base import Leaky, integrate


class LIF(Leaky):
    r"""Leaky integrate-and-fire neuron.

    $\tau\,\dot V = V_{rest} - V + R\,I$; then ``delta`` is added; where $V \ge V_{th}$ the neuron spikes and V is
    reset in the same step. With the default R an input of 1 pA for one step moves V by 1 mV. ``nd.LIF(10)`` has 10
    neurons, ``nd.LIF((8, 8))`` a grid of them, and ``nd.LIF(())`` takes any shape.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Gerstner, Kistler, Naud and Paninski (2014), Neuronal Dynamics, ch. 1.3.

    Example:
        >>> lif = nd.LIF(2, tau=20 * u.ms, V_th=15 * u.mV, R=0.1 * u.Gohm)
        >>> sum(lif(torch.tensor([100.0, 200.0])) for _ in range(100))
        tensor([0., 3.])
    """

    V_th: Param = param(1 * u.mV, doc="threshold")
    V_reset: Param = param(0 * u.mV, doc="potential after a reset")
    V_rest: Param = param(0 * u.mV, doc="resting potential")

    V: State = state(default=0 * u.mV, alias="V_initializer")

    def step(self, I: Tensor | Current, V: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        V = integrate(V, I, V_rest=self.V_rest, R=self.R, tau=self.tau, dt=self.dt)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset)
