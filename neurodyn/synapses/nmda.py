"""NMDA receptor."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, param, positive, state
from ..core.solve import gate, relax


class NMDA(Dynamics):
    r"""NMDA receptor: a fast gate x opens the slow fraction g of channels, which saturates at 1.

    $\tau_{rise}\,\dot x = -x$, and x jumps by the input; $\dot g = -g/\tau_{decay} + \alpha\,x\,(1 - g)$. In a step g
    moves with the mean of the decaying x over that step (second order in dt), then x decays and jumps. So the
    response starts one step after the spike.

    The voltage dependence is that of the output: `MgBlock`. Not linear in its input: in a `Projection` use
    ``align="pre"``; the weights then carry the conductance.

    Input: spikes, ``(*batch, *size)``, graded ones scale the jump. Output: g between 0 and 1, dimensionless, same
    shape. States: g and x.

    Example:
        >>> syn = nd.NMDA(1)
        >>> g = torch.stack([syn(torch.tensor([float(i == 0)])) for i in range(100)])
        >>> g.argmax().item(), round(g.max().item(), 3)
        (7, 0.592)

    Source: Wang (1999), Synaptic basis of cortical persistent activity, Journal of Neuroscience 19; the values are
    those of Brunel and Wang (2001), Journal of Computational Neuroscience 11.
    """

    tau_rise: Param = param(2 * u.ms, doc="time constant of x", domain=positive)
    tau_decay: Param = param(100 * u.ms, doc="time constant of g", domain=positive)
    alpha: Param = param(0.5 / u.ms, doc="rate of opening", domain=positive)

    g: State = state(default=0.0, alias="g_initializer")
    x: State = state(default=0.0, alias="x_initializer")

    @property
    def time_scale(self) -> Tensor:
        """The time constant of g: the response starts a step late, which would be more than it lasts."""
        return self.tau_decay

    def step(self, spike: Tensor, g: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x * (self.tau_rise / self.dt * -torch.expm1(-self.dt / self.tau_rise))
        closing = 1 / self.tau_decay
        opening = torch.maximum(self.alpha * mean, -0.5 * closing)  # however negative the transmitter, g stays finite
        g = gate(g, opening, closing, self.dt)
        x = relax(x, 0.0, self.tau_rise, self.dt) + spike
        return g, g, x
