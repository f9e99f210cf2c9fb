"""Quadratic integrate-and-fire."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, positive, state
from ..core.solve import exp_euler
from .base import RUNAWAY, Peaked, current


class QuaIF(Peaked):
    r"""Quadratic integrate-and-fire neuron.

    $\tau\,\dot V = c\,(V - V_{rest})(V - V_c) + R\,I$; then ``delta`` is added; where $V \ge V_{th}$ the neuron spikes
    and V is set to V_reset in the same step. V_c is where the upswing starts without input, V_th where it is cut off.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Latham, Richmond, Nelson and Nirenberg (2000), Intrinsic dynamics in neuronal networks, Journal of
    Neurophysiology 83, with tau, V_rest, V_c and c = 1/(V_c - V_rest) rounded to 0.07/mV; V_th and V_reset are those
    of `ExpIF`, and R = 1 Gohm is chosen here.

    Example:
        >>> neuron = nd.QuaIF(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([0.0, 10.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 3.])
    """

    R: Param = param(1 * u.Gohm, doc="resistance of the membrane", domain=positive)
    tau: Param = param(10 * u.ms, doc="time constant of the membrane", domain=positive)
    V_rest: Param = param(-65 * u.mV, doc="resting potential")
    V_c: Param = param(-50 * u.mV, doc="critical potential, above which V runs away")
    c: Param = param(0.07 / u.mV, doc="curvature of the upswing", domain=positive)
    V_th: Param = param(-30 * u.mV, doc="potential at which the upswing is cut off")
    V_reset: Param = param(-68 * u.mV, doc="potential after a spike")

    V: State = state(default=-65 * u.mV, alias="V_initializer")

    @property
    def time_scale(self) -> Tensor:
        """Half the time constant of the membrane at rest, above which the rate is wrong by about 10 %."""
        return self.tau / (2 * self.c * (self.V_rest - self.V_c).abs())

    def step(self, I: Tensor | Current, V: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        def slope(v: Tensor) -> Tensor:
            return (self.c * (v - self.V_rest) * (v - self.V_c) + self.R * current(I, v)) / self.tau

        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike)
