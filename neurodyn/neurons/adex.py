"""Adaptive exponential integrate-and-fire."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import exp_euler, relax
from .base import RUNAWAY, Peaked, current, exponential


class AdEx(Peaked):
    r"""Adaptive exponential integrate-and-fire neuron.

    $C\,\dot V = g_L (E_L - V) + g_L \Delta_T\,e^{(V - V_T)/\Delta_T} - w + I$ and
    $\tau_w\,\dot w = a (V - E_L) - w$; then ``delta`` is added; where $V \ge V_{th}$ the neuron spikes, V is set to
    V_reset and w grows by b, in the same step. V_T is where the upswing starts, V_th where it is cut off.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V in mV, w in pA.

    Source: Brette and Gerstner (2005), Adaptive exponential integrate-and-fire model as an effective description of
    neuronal activity, Journal of Neurophysiology 94; the defaults are its values.

    Example:
        >>> neuron = nd.AdEx(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([500.0, 1000.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 5.])
    """

    C: Param = param(281 * u.pF, doc="capacitance of the membrane", domain=positive)
    g_L: Param = param(30 * u.nS, doc="leak conductance", domain=nonnegative)
    E_L: Param = param(-70.6 * u.mV, doc="reversal potential of the leak")
    V_T: Param = param(-50.4 * u.mV, doc="potential at which the upswing of a spike starts")
    Delta_T: Param = param(2 * u.mV, doc="sharpness of the upswing", domain=positive)
    tau_w: Param = param(144 * u.ms, doc="time constant of the adaptation w", domain=positive)
    a: Param = param(4 * u.nS, doc="adaptation below threshold")
    b: Param = param(80.5 * u.pA, doc="rise of w at a spike")
    V_th: Param = param(20 * u.mV, doc="potential at which the upswing is cut off")
    V_reset: Param = param(-70.6 * u.mV, doc="potential after a spike")

    V: State = state(default=-70.6 * u.mV, alias="V_initializer")
    w: State = state(default=0 * u.pA, alias="w_initializer")

    @property
    def time_scale(self) -> Tensor:
        """Half the time constant of the membrane, above which the rate is wrong by about 10 %."""
        return self.C / self.g_L / 2

    def step(
        self, I: Tensor | Current, V: Tensor, w: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        def slope(v: Tensor) -> Tensor:
            upswing = exponential(v, self.V_T, self.Delta_T)
            return (self.g_L * (self.E_L - v + upswing) - w + current(I, v)) / self.C

        w_new = relax(w, self.a * (V - self.E_L), self.tau_w, self.dt)
        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike), w_new + self.b * spike
