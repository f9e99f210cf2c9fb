"""Izhikevich's simple model."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, positive, state
from ..core.solve import exp_euler, relax
from .base import RUNAWAY, Peaked, current


class Izhikevich(Peaked):
    r"""Izhikevich's simple model of a spiking neuron.

    $\dot V = p_2 V^2 + p_1 V + p_0 - u + I/C$ and $\dot u = a (b V - u)$; then ``delta`` is added; where
    $V \ge V_{th}$ the neuron spikes, V is set to c and u grows by d, in the same step.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V in mV, u in mV/ms, which starts at -13 mV/ms, at rest with
    the defaults.

    Source: Izhikevich (2003), Simple model of spiking neurons, IEEE Transactions on Neural Networks 14. The defaults
    are its regular spiking cell; it has no units, and with C = 1 pF an input in pA is its I.

    Example:
        >>> neuron = nd.Izhikevich(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([0.0, 10.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 3.])
    """

    C: Param = param(1 * u.pF, doc="capacitance of the membrane", domain=positive)
    p2: Param = param(0.04 / u.ms / u.mV, doc="coefficient of V squared")
    p1: Param = param(5 / u.ms, doc="coefficient of V")
    p0: Param = param(140 * u.mV / u.ms, doc="constant term")
    a: Param = param(0.02 / u.ms, doc="rate of the recovery u", domain=positive)
    b: Param = param(0.2 / u.ms, doc="sensitivity of u to V")
    c: Param = param(-65 * u.mV, doc="potential after a spike")
    d: Param = param(8 * u.mV / u.ms, doc="rise of u at a spike")
    V_th: Param = param(30 * u.mV, doc="potential at which the upswing is cut off")

    V: State = state(default=-65 * u.mV, alias="V_initializer")
    u: State = state(default=-13 * u.mV / u.ms, alias="u_initializer")

    @property
    def V_reset(self) -> Tensor:
        """V after a spike, the paper's c."""
        return self.c

    @property
    def time_scale(self) -> Tensor:
        """15 / |p1|, which is 3 ms: above it the rate of the paper's cells is wrong by about 10 %."""
        return 15 / self.p1.abs()

    def step(
        self, I: Tensor | Current, V: Tensor, u: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        def slope(v: Tensor) -> Tensor:
            return (self.p2 * v + self.p1) * v + self.p0 - u + current(I, v) / self.C

        u_new = relax(u, self.b * V, 1 / self.a, self.dt)
        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike), u_new + self.d * spike
