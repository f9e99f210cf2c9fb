"""Hodgkin and Huxley's squid axon."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import exp_euler, gate, phi
from .base import RUNAWAY, Firing, bounded, current


class HH(Firing):
    r"""Hodgkin-Huxley neuron, in the original form of 1952.

    $C\,\dot V = -g_{Na} m^3 h (V - E_{Na}) - g_K n^4 (V - E_K) - g_L (V - E_L) + I$, and
    $\dot x = \alpha_x(V)(1 - x) - \beta_x(V)\,x$ for the gates m, h and n; then ``delta`` is added. All equations see
    V, m, h and n from before the step. A spike is the step in which V goes up through V_th; nothing is reset. The
    surrogate's scale is V_th - E_L.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V in mV, gates m, h, n, at rest. Take dt of 0.05 ms or less; more
    than 0.25 ms, about the time constant of m at rest, is a `TimeStepWarning`.

    Source: Hodgkin and Huxley (1952), A quantitative description of membrane current and its application to conduction
    and excitation in nerve, Journal of Physiology 117; V is the potential inside, with rest at -65 mV. The membrane
    area is 100 um^2, on which 1 uF/cm^2 is 1 pF, 1 mS/cm^2 is 1 nS and 1 uA/cm^2 is 1 pA: the numbers are the paper's.

    Example:
        >>> neuron = nd.HH(2, dt=0.05 * u.ms)
        >>> I = torch.tensor([0.0, 10.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 4.])
    """

    C: Param = param(1 * u.pF, doc="capacitance of the membrane", domain=positive)
    g_Na: Param = param(120 * u.nS, doc="sodium conductance", domain=nonnegative)
    g_K: Param = param(36 * u.nS, doc="potassium conductance", domain=nonnegative)
    g_L: Param = param(0.3 * u.nS, doc="leak conductance", domain=nonnegative)
    E_Na: Param = param(50 * u.mV, doc="reversal potential of sodium")
    E_K: Param = param(-77 * u.mV, doc="reversal potential of potassium")
    E_L: Param = param(-54.387 * u.mV, doc="reversal potential of the leak")
    V_th: Param = param(0 * u.mV, doc="potential whose upward crossing is a spike")

    V: State = state(default=-65 * u.mV, alias="V_initializer")
    m: State = state(default=0.0529, alias="m_initializer")
    h: State = state(default=0.5961, alias="h_initializer")
    n: State = state(default=0.3177, alias="n_initializer")

    time_scale = 0.25  # ms: about the time constant of m at rest

    @property
    def V_reset(self) -> Tensor:
        """The potential from which a spike starts."""
        return self.E_L

    def step(
        self, I: Tensor | Current, V: Tensor, m: Tensor, h: Tensor, n: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        g_Na, g_K, before = self.g_Na * m**3 * h, self.g_K * n**4, V

        def slope(v: Tensor) -> Tensor:
            ionic = g_Na * (v - self.E_Na) + g_K * (v - self.E_K) + self.g_L * (v - self.E_L)
            return (current(I, v) - ionic) / self.C

        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        m, h, n = (gate(x, a, b, self.dt) for x, (a, b) in zip((m, h, n), rates(before), strict=True))
        return self.cross(before, V), V, m, h, n


def rates(V: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    r"""Opening and closing rates $\alpha, \beta$ of m, h and n in 1/ms, finite at every V."""
    m = rectified((V + 40) / 10), 4 * torch.exp(bounded((-65 - V) / 18))
    h = 0.07 * torch.exp(bounded((-65 - V) / 20)), torch.sigmoid((V + 35) / 10)
    n = 0.1 * rectified((V + 55) / 10), 0.125 * torch.exp(bounded((-65 - V) / 80))
    return m, h, n


def rectified(x: Tensor) -> Tensor:
    r"""$x/(1 - e^{-x}) = 1/\varphi(-x)$, for negative x as $e^x/\varphi(x)$, whose parts are between 0 and 1."""
    below = x < 0
    decaying = torch.where(below, x, -x)
    return torch.where(below, torch.exp(decaying), 1.0) / phi(decaying)
