"""Leaky integrate-and-fire with an adaptive threshold."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Leaky, integrate


class ALIF(Leaky):
    r"""Leaky integrate-and-fire neuron whose threshold rises with every spike.

    $\tau\,\dot V = V_{rest} - V + R\,I$ and $\tau_a\,\dot a = -a$; then ``delta`` is added; where
    $V \ge V_{th} + \beta a$ the neuron spikes, V is reset and a grows by 1, both in the same step. A soft reset
    subtracts V_th - V_reset, whatever a.

    R is 1/(1 - exp(-dt/tau)) Gohm if it is not given: an input of 1 pA for one step moves V by 1 mV.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Bellec, Salaj, Subramoney, Legenstein and Maass (2018), Long short-term memory and learning-to-learn in
    networks of spiking neurons, NeurIPS 31.

    Example:
        >>> neuron = nd.ALIF(2, R=1 * u.Gohm, beta=torch.tensor([0.0, 0.2]) * u.mV)
        >>> I = torch.tensor([2.0, 2.0])
        >>> sum(neuron(I) for _ in range(100))
        tensor([26.,  9.])
    """

    tau_a: Param = param(100 * u.ms, doc="time constant of the adaptation a", domain=positive)
    V_th: Param = param(1 * u.mV, doc="threshold without adaptation")
    V_reset: Param = param(0 * u.mV, doc="potential after a reset")
    V_rest: Param = param(0 * u.mV, doc="resting potential")
    beta: Param = param(0.1 * u.mV, doc="rise of the threshold for each unit of a")

    V: State = state(default=0 * u.mV, alias="V_initializer")
    a: State = state(default=0.0, alias="a_initializer")

    def step(
        self, I: Tensor | Current, V: Tensor, a: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        V = integrate(V, I, V_rest=self.V_rest, R=self.R, tau=self.tau, dt=self.dt)
        if delta is not None:
            V = V + delta
        a = relax(a, 0.0, self.tau_a, self.dt)
        spike = self.fire(V - self.V_th - self.beta * a)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset), a + spike
