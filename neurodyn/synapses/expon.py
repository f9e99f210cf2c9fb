"""Exponential synapse."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.decaying import Decaying, Part
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Linear


class Expon(Linear):
    r"""Exponentially decaying conductance: $\tau\,\dot g = -g$, and g jumps by the input.

    The jump comes after the decay and is part of the same step's output.

    Input: jump of g in nS, ``(*batch, *size)``. Output: g in nS, same shape.

    Args:
        exact: whether g decays within the step, or is held; see
            `neurodyn.synapses.base.Linear`.

    Example:
        >>> syn = nd.Expon(1, tau=2 * u.ms)
        >>> [round(syn(torch.tensor([jump])).item(), 4) for jump in (1.0, 0.0, 0.0)]
        [1.0, 0.6065, 0.3679]

    Source: Dayan and Abbott (2001), Theoretical Neuroscience, ch. 5.8.
    """

    tau: Param = param(8 * u.ms, doc="time constant", domain=positive)

    g: State = state(default=0 * u.nS, alias="g_initializer")

    def step(self, jump: Tensor, g: Tensor) -> tuple[Tensor | Decaying, Tensor]:
        g = relax(g, 0.0, self.tau, self.dt) + jump
        return self.output(g), g

    def output(self, g: Tensor) -> Tensor | Decaying:
        """g, or its decay from g on."""
        return Decaying([Part(g, self.tau)], self.dt) if self.exact else g
