"""Short-term plasticity of Tsodyks and Markram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, fraction, nonnegative, param, positive, state
from ..core.solve import relax

Rule = Literal["tsodyks-markram", "brainstate"]
BOUND = 10.0


def bounded(part: Tensor) -> Tensor:
    """A part of the resources, between 0 and 1 for spikes of up to 1; graded ones of many times 1 would drive it away.

    They multiply it by more than 1 in each step, so that after some it would be infinite.
    """
    return part.clamp(-BOUND, BOUND)


class ShortTermPlasticity(Dynamics):
    """Base of STP and STD: `rule` says which variant of the update is meant.

    Args:
        rule: variant of the update, "tsodyks-markram" or "brainstate".
    """

    if TYPE_CHECKING:
        rule: Rule = "tsodyks-markram"

    def __init__(self, size: int | tuple[int, ...], *, rule: Rule = "tsodyks-markram", **values: Any):
        super().__init__(size, **values)
        if rule not in ("tsodyks-markram", "brainstate"):
            raise ValueError(f"{self._label()}: rule must be 'tsodyks-markram' or 'brainstate', got {rule!r}")
        self.rule = rule


class STP(ShortTermPlasticity):
    r"""Short-term plasticity with facilitation u and depression x.

    $\dot u = -u/\tau_f$ and $\dot x = (1 - x)/\tau_d$ between spikes. At a spike $s$, with the decayed values:
    $u^+ = u^- + s\,U(1 - u^-)$, the release is $s\,u^+ x^-$, and $x^+ = x^- - s\,u^+ x^-$.
    u starts at 0 and x at 1. With ``tau_f=0 * u.ms`` there is no facilitation: each spike uses U, as in `STD`.
    `STPInactive` has the inactive resources of the paper, too.

    ``rule="brainstate"`` gives the numbers of brainstate 0.1.3: jumps and depletion use u and x from before the
    decay, the release is $s\,u^+ x^+$, and u starts at U.

    Input: spikes, ``(*batch, *size)``, graded ones scale the jump. Output: release, same shape. States: u and x.
    Spikes between 0 and 1 keep both there too. Larger or negative ones drive them out of it, at most to -10 and 10; in
    half precision the gradients by spikes of 100 overflow.

    Example:
        >>> stp = nd.STP(1, U=0.5, tau_d=1 * u.s)
        >>> [round(stp(torch.ones(1)).item(), 3) for _ in range(3)]  # a spike in each of three steps
        [0.5, 0.375, 0.11]

    Source: Tsodyks, Pawelzik and Markram (1998), Neural networks with dynamic synapses, Neural Computation 10.
    """

    U: Param = param(0.15, doc="use of resources at a spike", domain=fraction)
    tau_f: Param = param(1500 * u.ms, doc="time constant of the facilitation u; 0 for none", domain=nonnegative)
    tau_d: Param = param(200 * u.ms, doc="time constant of the resources x", domain=positive)

    u: State = state(default=0.0, alias="u_initializer")
    x: State = state(default=1.0, alias="x_initializer")

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, size: int | tuple[int, ...], *, rule: Rule = "tsodyks-markram", **values: Any):
            if rule == "brainstate":
                values.setdefault("u_initializer", values.get("U", self.params["U"].default))
            super().__init__(size, rule=rule, **values)
            if rule == "brainstate" and bool((self.tau_f.detach() == 0).any()):
                raise ValueError(
                    f"{self._label()}: with rule='brainstate' tau_f must be positive, got 0 ms; without facilitation "
                    "take nd.STD(size, U=..., tau=..., rule='brainstate')"
                )

    def step(self, spike: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u_rest, x_rest = relax(u, 0.0, self.tau_f, self.dt), relax(x, 1.0, self.tau_d, self.dt)
        if self.rule == "brainstate":
            u_new = bounded(u_rest + spike * self.U * (1 - u))
            x_new = bounded(x_rest - spike * u_new * x)
            return spike * u_new * x_new, u_new, x_new
        u_new = bounded(u_rest + spike * self.U * (1 - u_rest))
        release = spike * u_new * x_rest
        return release, u_new, bounded(x_rest - release)


class STD(ShortTermPlasticity):
    r"""Short-term depression: $\dot x = (1 - x)/\tau$; a spike $s$ releases $s\,U x^-$ and takes it from x.

    ``rule="brainstate"`` gives the numbers of brainstate 0.1.3: the release is $s\,x^+$, without the factor U, and
    the depletion uses x from before the decay.

    Input: spikes, ``(*batch, *size)``, graded ones scale the release. Output: release, same shape. State: x,
    kept between -10 and 10, as in `STP`.

    Example:
        >>> std = nd.STD(1, U=0.5, tau=1 * u.s)
        >>> [round(std(torch.ones(1)).item(), 3) for _ in range(3)]
        [0.5, 0.25, 0.125]

    Source: Abbott, Varela, Sen and Nelson (1997), Synaptic depression and cortical gain control, Science 275.
    """

    U: Param = param(0.07, doc="use of resources at a spike", domain=fraction)
    tau: Param = param(200 * u.ms, doc="time constant of the resources x", domain=positive)

    x: State = state(default=1.0, alias="x_initializer")

    def step(self, spike: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        x_rest = relax(x, 1.0, self.tau, self.dt)
        if self.rule == "brainstate":
            x_new = bounded(x_rest - spike * self.U * x)
            return spike * x_new, x_new
        release = spike * self.U * x_rest
        return release, bounded(x_rest - release)
