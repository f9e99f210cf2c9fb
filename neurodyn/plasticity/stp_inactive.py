"""Short-term plasticity of Tsodyks, Pawelzik and Markram with the inactive state of their paper."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, fraction, nonnegative, param, positive, state
from ..core.solve import phi, relax
from .stp import bounded


class STPInactive(Dynamics):
    r"""Short-term plasticity in which released resources are inactive for a time before they recover.

    As `STP`, with a third state of the resources: $\dot x = (1 - x - y)/\tau_d$, $\dot y = -y/\tau_{in}$ and
    $\dot u = -u/\tau_f$ between spikes, solved exactly. At a spike $s$: $u^+ = u^- + s\,U(1 - u^-)$, and the release
    $s\,u^+ x^-$ goes from the recovered x to the inactive y; $1 - x - y$ are recovering. With ``tau_f=0 * u.ms`` each
    spike uses U: the depressing synapses of the paper. For a short tau_in it is `STP`.

    In the paper the current goes with y, so that tau_in is the decay of the synaptic current. Here the current is the
    synapse's, such as `Expon` with tau = tau_in.

    Input: spikes, ``(*batch, *size)``, graded ones scale the jump. Output: release, same shape. States: u, x and y,
    kept between -10 and 10, as in `STP`.

    Example:
        >>> stp = nd.STPInactive(1, U=0.5, tau_f=0 * u.ms, tau_d=800 * u.ms)
        >>> [round(stp(torch.ones(1)).item(), 3) for _ in range(3)]  # a spike in each of three steps
        [0.5, 0.25, 0.125]

    Source: Tsodyks, Pawelzik and Markram (1998), Neural networks with dynamic synapses, Neural Computation 10,
    equations 3 and 4; NEST has it as `tsodyks_synapse`.
    """

    U: Param = param(0.15, doc="use of resources at a spike", domain=fraction)
    tau_f: Param = param(1500 * u.ms, doc="time constant of the facilitation u; 0 for none", domain=nonnegative)
    tau_d: Param = param(200 * u.ms, doc="time constant of the recovery", domain=positive)
    tau_in: Param = param(3 * u.ms, doc="time constant of the inactive resources y", domain=positive)

    u: State = state(default=0.0, alias="u_initializer")
    x: State = state(default=1.0, alias="x_initializer")
    y: State = state(default=0.0, alias="y_initializer")

    def step(self, spike: Tensor, u: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a, b = self.dt / self.tau_d, self.dt / self.tau_in
        held_back = y * a * torch.exp(-torch.minimum(a, b)) * phi(-(a - b).abs())  # by what is inactive in the step
        x = relax(x, 1.0, self.tau_d, self.dt) - held_back
        u, y = relax(u, 0.0, self.tau_f, self.dt), relax(y, 0.0, self.tau_in, self.dt)
        u = bounded(u + spike * self.U * (1 - u))
        release = spike * u * x
        return release, u, bounded(x - release), bounded(y + release)
