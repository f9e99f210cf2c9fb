"""Morris and Lecar's barnacle muscle fibre."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import exp_euler, gate
from .base import RUNAWAY, Firing, bounded, current


class MorrisLecar(Firing):
    r"""Morris-Lecar neuron.

    $C\,\dot V = -g_{Ca} m_\infty(V) (V - V_{Ca}) - g_K w (V - V_K) - g_L (V - V_L) + I$ and
    $\dot w = (w_\infty(V) - w)/\tau_w(V)$ with $m_\infty = \tfrac12 (1 + \tanh\frac{V - V_1}{V_2})$,
    $w_\infty = \tfrac12 (1 + \tanh\frac{V - V_3}{V_4})$ and $1/\tau_w = \phi \cosh\frac{V - V_3}{2 V_4}$; then
    ``delta`` is added. A spike is the step in which V goes up through V_th; nothing is reset. The surrogate's scale is
    V_th - V_L.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V in mV and w, the open fraction of the potassium channels, near
    rest.

    Source: Morris and Lecar (1981), Voltage oscillations in the barnacle giant muscle fiber, Biophysical Journal 35;
    the defaults are the set of Rinzel and Ermentrout (1989), Analysis of neural excitability and oscillations, that
    starts to oscillate by a Hopf bifurcation. The membrane area is 100 um^2, on which 1 uF/cm^2 is 1 pF, 1 mS/cm^2 is
    1 nS and 1 uA/cm^2 is 1 pA.

    Example:
        >>> neuron = nd.MorrisLecar(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([0.0, 100.0])
        >>> sum(neuron(I) for _ in range(5000))
        tensor([0., 6.])
    """

    C: Param = param(20 * u.pF, doc="capacitance of the membrane", domain=positive)
    g_Ca: Param = param(4.4 * u.nS, doc="calcium conductance", domain=nonnegative)
    g_K: Param = param(8 * u.nS, doc="potassium conductance", domain=nonnegative)
    g_L: Param = param(2 * u.nS, doc="leak conductance", domain=nonnegative)
    V_Ca: Param = param(120 * u.mV, doc="reversal potential of calcium")
    V_K: Param = param(-84 * u.mV, doc="reversal potential of potassium")
    V_L: Param = param(-60 * u.mV, doc="reversal potential of the leak")
    V1: Param = param(-1.2 * u.mV, doc="potential at which half of the calcium channels are open")
    V2: Param = param(18 * u.mV, doc="width of their opening in V", domain=positive)
    V3: Param = param(2 * u.mV, doc="potential at which half of the potassium channels are open")
    V4: Param = param(30 * u.mV, doc="width of their opening in V", domain=positive)
    phi: Param = param(0.04 / u.ms, doc="rate of the potassium channels", domain=positive)
    V_th: Param = param(10 * u.mV, doc="potential whose upward crossing is a spike")

    V: State = state(default=-60 * u.mV, alias="V_initializer")
    w: State = state(default=0.015, alias="w_initializer")

    @property
    def V_reset(self) -> Tensor:
        """The potential from which a spike starts."""
        return self.V_L

    @property
    def time_scale(self) -> Tensor:
        """Half the time constant of the membrane, above which the rate is wrong by about 10 %."""
        return self.C / self.g_L / 2

    def step(
        self, I: Tensor | Current, V: Tensor, w: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        def slope(v: Tensor) -> Tensor:
            m = (1 + torch.tanh((v - self.V1) / self.V2)) / 2
            ionic = self.g_Ca * m * (v - self.V_Ca) + self.g_K * w * (v - self.V_K) + self.g_L * (v - self.V_L)
            return (current(I, v) - ionic) / self.C

        x, before = (V - self.V3) / self.V4, V
        rate = self.phi * torch.cosh(bounded(x.abs() / 2))
        w_new = gate(w, rate * torch.sigmoid(2 * x), rate * torch.sigmoid(-2 * x), self.dt)  # w_inf is sigmoid(2 x)
        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        return self.cross(before, V), V, w_new
