"""Models that NIR has and the rest of neurodyn has not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.current import Current
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from ..neurons.base import Spiking, current


class PerfectIF(Spiking):
    r"""Integrate-and-fire neuron without leak, the IF of NIR: $\dot V = R\,I$, then a spike and the reset as in `LIF`.

    Input: current I in pA, ``(*batch, *size)``. Output: spikes, 0 or 1. R is an inverse capacitance.

    Example:
        >>> neuron = nd.nir.PerfectIF(1, R=0.25 * u.Gohm / u.ms)
        >>> [neuron(torch.ones(1)).item() for _ in range(4)]
        [0.0, 0.0, 0.0, 1.0]
    """

    R: Param = param(1 * u.Gohm / u.ms, doc="resistance", domain=positive)
    V_th: Param = param(1 * u.mV, doc="threshold")
    V_reset: Param = param(0 * u.mV, doc="potential after a reset")

    V: State = state(default=0 * u.mV, alias="V_initializer")

    def step(self, I: Tensor | Current, V: Tensor) -> tuple[Tensor, Tensor]:
        V = V + self.dt * self.R * current(I, V)
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset)


class LI(Dynamics):
    r"""Leaky integrator, the LI of NIR: $\tau\,\dot V = V_{rest} - V + R\,I$.

    Input: current I in pA, ``(*batch, *size)``. Output: V in mV.

    Example:
        >>> membrane = nd.nir.LI(1, tau=1 / torch.tensor(2.0).log() * u.ms)
        >>> [membrane(torch.ones(1)).item() for _ in range(3)]
        [0.5, 0.75, 0.875]
    """

    R: Param = param(1 * u.Gohm, doc="resistance", domain=positive)
    tau: Param = param(5 * u.ms, doc="time constant", domain=positive)
    V_rest: Param = param(0 * u.mV, doc="resting potential")

    V: State = state(default=0 * u.mV, alias="V_initializer")

    def step(self, I: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        V = relax(V, self.V_rest + self.R * I, self.tau, self.dt)
        return V, V


class Scale(nn.Module):
    r"""A factor for each element: $y = s \odot x$.

    Example:
        >>> nd.nir.Scale(torch.tensor([1.0, 2.0]))(torch.ones(3, 2)).tolist()
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(self, scale: Tensor):
        super().__init__()
        self.scale = nn.Parameter(torch.as_tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale
