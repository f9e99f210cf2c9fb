"""Receptors with a pulse of transmitter: AMPA and GABA-A."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, param, positive, state
from ..core.solve import gate, whole_steps
from ..surrogate import straight_through


class AMPA(Dynamics):
    r"""AMPA receptor: fraction g of open channels, $\dot g = \alpha\,[T]\,(1 - g) - \beta\,g$.

    A spike, any input other than 0, opens a pulse of transmitter: $[T]$ = T in the step of the spike and after it for
    T_dur in total, else 0. The pulse is counted in whole steps, T_dur = n dt lasts n of them (a fraction counts as
    one more), so that T_dur cannot be learned; a spike inside a pulse starts it anew. The equation is solved exactly
    for each step.

    Backward, a spike s is taken to mix the counts with and without it, n s + (1 - s) rest, and $[T]$ to be T times the
    count over n; so a gradient reaches the spikes.

    Not linear in its input: in a `Projection` use ``align="pre"``; the weights then carry the conductance.

    Input: spikes, ``(*batch, *size)``. Output: g between 0 and 1, dimensionless, same shape.
    States: g, and ``pulse``, the number of steps for which transmitter is present, this one included.

    Example:
        >>> syn = nd.AMPA(1, dt=0.1 * u.ms)
        >>> g = torch.stack([syn(torch.tensor([float(i == 0)])) for i in range(8)])
        >>> g.argmax().item()  # rises for the five steps of the pulse
        4

    Source: Destexhe, Mainen and Sejnowski (1994), An efficient method for computing synaptic conductances based on a
    kinetic model of receptor binding, Neural Computation 6.
    """

    alpha: Param = param(0.98 / (u.ms * u.mM), doc="binding rate", domain=positive)
    beta: Param = param(0.18 / u.ms, doc="unbinding rate", domain=positive)
    T: Param = param(0.5 * u.mM, doc="concentration of the pulse", domain=positive)
    T_dur: Param = param(0.5 * u.ms, doc="duration of the pulse, whole steps", domain=positive, learnable=False)

    g: State = state(default=0.0, alias="g_initializer")
    pulse: State = state(default=0.0, alias="pulse_initializer", counts=True)

    @property
    def time_scale(self) -> Tensor:
        """The duration of the pulse, which a longer step would make longer."""
        return self.T_dur

    def step(self, spike: Tensor, g: Tensor, pulse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps = whole_steps(self.T_dur, self.dt)
        fired = straight_through((spike != 0).to(g.dtype), spike).to(pulse.dtype)
        pulse = fired * steps + (1 - fired) * torch.relu(pulse - 1)
        binding = self.alpha * self.T * straight_through((pulse > 0).to(pulse.dtype), pulse / steps).to(g.dtype)
        g = gate(g, binding, self.beta, self.dt)
        return g, g, pulse


class GABAa(AMPA):
    r"""GABA-A receptor: the equation of `AMPA` with other rates, $\dot g = \alpha\,[T]\,(1 - g) - \beta\,g$.

    Input: spikes, ``(*batch, *size)``. Output: g between 0 and 1, dimensionless, same shape. Pair it with a `COBA`
    whose reversal potential is below rest.

    Example:
        >>> syn = nd.GABAa(1, dt=0.5 * u.ms)
        >>> [round(syn(torch.tensor([spike])).item(), 3) for spike in (1.0, 0.0, 0.0)]
        [0.223, 0.379, 0.347]

    Source: Destexhe, Mainen and Sejnowski (1994), Neural Computation 6.
    """

    alpha: Param = param(0.53 / (u.ms * u.mM), doc="binding rate", domain=positive)
    T: Param = param(1.0 * u.mM, doc="concentration of the pulse", domain=positive)
    T_dur: Param = param(1.0 * u.ms, doc="duration of the pulse, whole steps", domain=positive, learnable=False)
