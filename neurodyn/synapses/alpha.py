"""Alpha-function synapse."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.decaying import Decaying, Part
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Linear


class Alpha(Linear):
    r"""Alpha-function conductance: $\tau\,\dot g = h - g$ and $\tau\,\dot h = -h$; h jumps by the input.

    In a step g relaxes towards the h from before the step, then h decays and jumps. So the response starts one step
    after the jump. k steps after a unit jump, at $t = k\,dt$, it is $(t/\tau)\,e^{-t/\tau}$ times the constant
    $(e^x - 1)/x$ with $x = dt/\tau$; the function itself peaks at 1/e at $t = \tau$ (scale weights by e for peak 1).
    With ``exact=True`` both equations are solved together, without the constant: $g \gets (g + h\,x)\,e^{-x}$.

    Input: jump of h in nS, ``(*batch, *size)``. Output: g in nS, same shape.

    Args:
        exact: whether g is the alpha function itself, and changes within the step; see
            `neurodyn.synapses.base.Linear`.

    Example:
        >>> syn = nd.Alpha(1)
        >>> [round(syn(torch.tensor([jump])).item(), 4) for jump in (1.0, 0.0, 0.0)]
        [0.0, 0.1175, 0.2074]

    Source: Rall (1967), Distinguishing theoretical synaptic potentials, Journal of Neurophysiology 30.
    """

    tau: Param = param(8 * u.ms, doc="time from a jump to the peak", domain=positive)

    g: State = state(default=0 * u.nS, alias="g_initializer")
    h: State = state(default=0 * u.nS, alias="h_initializer")

    def step(self, jump: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor | Decaying, Tensor, Tensor]:
        if self.exact:
            z = self.dt / self.tau
            g = relax(g, 0.0, self.tau, self.dt) + h * (z * torch.exp(-z))
        else:
            g = relax(g, h, self.tau, self.dt)
        h = relax(h, 0.0, self.tau, self.dt) + jump
        return self.output(g, h), g, h

    def output(self, g: Tensor, h: Tensor) -> Tensor | Decaying:
        """g, or its course from g and h on."""
        return Decaying([Part(g, self.tau, h)], self.dt) if self.exact else g
