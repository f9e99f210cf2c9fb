"""Exponential integrate-and-fire."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, positive, state
from ..core.solve import exp_euler
from .base import RUNAWAY, Peaked, current, exponential


class ExpIF(Peaked):
    r"""Exponential integrate-and-fire neuron.

    $\tau\,\dot V = V_{rest} - V + \Delta_T\,e^{(V - V_T)/\Delta_T} + R\,I$; then ``delta`` is added; where
    $V \ge V_{th}$ the neuron spikes and V is set to V_reset in the same step. V_T is where the upswing starts, V_th
    where it is cut off.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Fourcaud-Trocme, Hansel, van Vreeswijk and Brunel (2003), How spike generation mechanisms determine the
    neuronal response to fluctuating inputs, Journal of Neuroscience 23. The defaults are its values, without the
    refractory period of 1.7 ms; it gives conductances per area, and R = 1 Gohm is chosen here.

    Example:
        >>> neuron = nd.ExpIF(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([0.0, 10.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 6.])
    """

    R: Param = param(1 * u.Gohm, doc="resistance of the membrane", domain=positive)
    tau: Param = param(10 * u.ms, doc="time constant of the membrane", domain=positive)
    V_rest: Param = param(-65 * u.mV, doc="resting potential")
    V_T: Param = param(-59.9 * u.mV, doc="potential at which the upswing of a spike starts")
    Delta_T: Param = param(3.48 * u.mV, doc="sharpness of the upswing", domain=positive)
    V_th: Param = param(-30 * u.mV, doc="potential at which the upswing is cut off")
    V_reset: Param = param(-68 * u.mV, doc="potential after a spike")

    V: State = state(default=-65 * u.mV, alias="V_initializer")

    @property
    def time_scale(self) -> Tensor:
        """Half the time constant of the membrane, above which the rate is wrong by about 10 %."""
        return self.tau / 2

    def step(self, I: Tensor | Current, V: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        def slope(v: Tensor) -> Tensor:
            upswing = exponential(v, self.V_T, self.Delta_T)
            return (self.V_rest - v + upswing + self.R * current(I, v)) / self.tau

        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike)
