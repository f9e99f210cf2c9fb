"""Generalised integrate-and-fire."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Peaked, integrate


class GIF(Peaked):
    r"""Generalised linear integrate-and-fire neuron with two spike-induced currents and a moving threshold.

    $C\,\dot V = -G (V - E_L) + I_1 + I_2 + I$, $\dot I_j = -k_j I_j$ and
    $\dot\Theta = a (V - E_L) - b (\Theta - \Theta_\infty)$; then ``delta`` is added; where $V \ge \Theta$ the neuron
    spikes: V is set to V_reset, $I_j$ to $R_j I_j + A_j$ and $\Theta$ to $\max(\Theta_r, \Theta)$, in the same step.
    The surrogate's scale is Theta_inf - V_reset.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V and Theta in mV, I1 and I2 in pA.

    Source: Mihalas and Niebur (2009), A generalized linear integrate-and-fire neural model produces diverse spiking
    behaviors, Neural Computation 21. The defaults are its tonic spiking; its 20 behaviours differ in a, A1, A2 and the
    input. It divides currents by C, so that with C = 1 pF its V/s are pA.

    Example:
        >>> neuron = nd.GIF(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([0.9, 1.5])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 4.])
    """

    C: Param = param(1 * u.pF, doc="capacitance of the membrane", domain=positive)
    G: Param = param(0.05 * u.nS, doc="leak conductance", domain=positive)
    E_L: Param = param(-70 * u.mV, doc="reversal potential of the leak")
    a: Param = param(0 / u.ms, doc="coupling of the threshold to V")
    b: Param = param(0.01 / u.ms, doc="rate at which the threshold returns", domain=positive)
    k1: Param = param(0.2 / u.ms, doc="rate at which I1 decays", domain=positive)
    k2: Param = param(0.02 / u.ms, doc="rate at which I2 decays", domain=positive)
    R1: Param = param(0.0, doc="factor of I1 at a spike")
    R2: Param = param(1.0, doc="factor of I2 at a spike")
    A1: Param = param(0 * u.pA, doc="added to I1 at a spike")
    A2: Param = param(0 * u.pA, doc="added to I2 at a spike")
    Theta_inf: Param = param(-50 * u.mV, doc="threshold at rest")
    Theta_r: Param = param(-60 * u.mV, doc="lowest threshold after a spike")
    V_reset: Param = param(-70 * u.mV, doc="potential after a spike")

    V: State = state(default=-70 * u.mV, alias="V_initializer")
    Theta: State = state(default=-50 * u.mV, alias="Theta_initializer")
    I1: State = state(default=0 * u.pA, alias="I1_initializer")
    I2: State = state(default=0 * u.pA, alias="I2_initializer")

    thresholds = ("Theta_initializer", "Theta_inf")

    @property
    def gap(self) -> Tensor:
        """From V_reset to the resting threshold."""
        return self.Theta_inf - self.V_reset

    @property
    def time_scale(self) -> Tensor:
        """Half the time constant of the faster current that spikes induce; without one every dt will do."""
        return torch.minimum(
            torch.where(self.A1 != 0, 0.5 / self.k1, torch.inf).min(),
            torch.where(self.A2 != 0, 0.5 / self.k2, torch.inf).min(),
        )

    def step(
        self, I: Tensor | Current, V: Tensor, Theta: Tensor, I1: Tensor, I2: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        Theta = relax(Theta, self.Theta_inf + self.a * (V - self.E_L) / self.b, 1 / self.b, self.dt)
        V = integrate(V, I + (I1 + I2), V_rest=self.E_L, R=1 / self.G, tau=self.C / self.G, dt=self.dt)
        I1, I2 = relax(I1, 0.0, 1 / self.k1, self.dt), relax(I2, 0.0, 1 / self.k2, self.dt)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - Theta)
        I1 = I1 + spike * (self.R1 * I1 + self.A1 - I1)
        I2 = I2 + spike * (self.R2 * I2 + self.A2 - I2)
        Theta = Theta + spike * (torch.maximum(Theta, self.Theta_r) - Theta)
        return spike, self.reset_potential(V, spike), Theta, I1, I2
