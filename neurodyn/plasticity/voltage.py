"""Plasticity that depends on the potential of the postsynaptic neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from .. import units as u
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class VoltageSTDP(Plasticity):
    r"""The voltage-based rule of Clopath and others: the potential of the neuron decides, not its spikes.

    Traces of the potential V of each output, $\tau_-\,\dot u_- = V - u_-$ and $\tau_+\,\dot u_+ = V - u_+$, and of each
    input, $\tau_x\,\dot x = -x$ with $1/\tau_x$ more at a spike. With $[z]_+ = \max(z, 0)$

    $\dot w = w_{max}\, A_{LTP}\, x\,[V - \theta_+]_+\,[u_+ - \theta_-]_+$,

    $\Delta w = -w_{max}\, A_{LTD}\,[u_- - \theta_-]_+$ at a spike of the input,

    in this order, with all traces from before the spikes and the V of the step; $u_-$ and $u_+$ follow V, held for a
    step, from the next step on. So does NEST's `clopath_synapse` with ``delay_u_bars`` = 0.

    With ``homeostasis=True`` the depression grows with the mean square of the potential, $A_{LTD}\, m / u_{ref}^2$ in
    place of $A_{LTD}$, with $\tau_{mean}\,\dot m = (V - V_{rest})^2 - m$ for each output, as in the program of the
    authors. NEST's ``A_LTD_const`` = False takes the square of the mean of V itself.

    ``learn(spikes, V=neuron.V)``, V in mV, ``(*batch, *post)``: of a neuron whose potential rises at a spike, such as
    `AdEx`, or the potential before its reset. The spikes are not used.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        A_LTD: depression, in parts of `w_max` (14e-5 / mV).
        A_LTP: potentiation, in parts of `w_max` (8e-5 / mV^2).
        theta_minus, theta_plus: thresholds (-70.6 and -45.3 mV).
        tau_x, tau_minus, tau_plus: time constants (15, 10 and 7 ms).
        homeostasis: whether the depression follows the mean square of the potential.
        u_ref, V_rest, tau_mean: of the homeostasis (7.746, the root of 60, and -70.6 mV; 1 s).

    Example:
        >>> rule = nd.VoltageSTDP(nd.OneToOne(2, weight=[0.5, 0.5]), w_max=1.0)
        >>> for _ in range(30):  # the first neuron is a little above rest, the second far above
        ...     _ = rule(torch.ones(2), torch.zeros(2), V=torch.tensor([-60.0, -30.0]))
        >>> bool(rule.weight[0] < 0.5), bool(rule.weight[1] > 0.5)
        (True, True)

    Source: Clopath, Büsing, Vasilaki and Gerstner (2010), Connectivity reflects coding: a model of voltage-based STDP
    with homeostasis, Nature Neuroscience 13.
    """

    needs_bound = True
    input_units: ClassVar[dict[str, str]] = {"V": "mV"}
    A_LTD: Param = param(14e-5 / u.mV, domain=nonnegative)
    A_LTP: Param = param(8e-5 / u.mV**2, domain=nonnegative)
    theta_minus: Param = param(-70.6 * u.mV)
    theta_plus: Param = param(-45.3 * u.mV)
    tau_x: Param = param(15 * u.ms, domain=positive)
    tau_minus: Param = param(10 * u.ms, domain=positive)
    tau_plus: Param = param(7 * u.ms, domain=positive)
    u_ref: Param = param(60**0.5 * u.mV, domain=positive)
    V_rest: Param = param(-70.6 * u.mV)
    tau_mean: Param = param(1000 * u.ms, domain=positive)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    u_minus: State = state(default=-70.6 * u.mV, alias="u_minus_initializer", shape="size")
    u_plus: State = state(default=-70.6 * u.mV, alias="u_plus_initializer", shape="size")
    m: State = state(default=60 * u.mV**2, alias="m_initializer", shape="size")

    if TYPE_CHECKING:
        homeostasis: bool = False

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, connection: nn.Module, *, homeostasis: bool = False, **values: Any):
            if not isinstance(homeostasis, bool):
                raise TypeError(f"{type(self).__name__}: homeostasis must be True or False, got {homeostasis!r}")
            super().__init__(connection, **values)
            self.homeostasis = homeostasis

    def change(  # type: ignore[override]
        self,
        pre: Tensor,
        post: Tensor,
        weight: Tensor,
        x: Tensor,
        u_minus: Tensor,
        u_plus: Tensor,
        m: Tensor,
        *,
        V: Tensor,
    ) -> tuple[Tensor, ...]:
        wanted = tuple(u_plus.shape)
        if not isinstance(V, Tensor):
            raise TypeError(
                f"{self._label()}: V is {V!r}, a {type(V).__name__}; wanted a tensor of shape {wanted} in mV, such as "
                "learn(spikes, V=neuron.V)"
            )
        if tuple(V.shape) != wanted:
            raise ValueError(f"{self._label()}: V has shape {tuple(V.shape)}, wanted {wanted}, in mV")
        x = relax(x, 0.0, self.tau_x, self.dt)
        risen = (V - self.theta_plus).relu() * (u_plus - self.theta_minus).relu()
        weight = self.add_pairs(weight, risen, self.w_max * self.dt * self.A_LTP * x)
        low = (u_minus - self.theta_minus).relu()
        if self.homeostasis:
            low, m = low * m / self.u_ref**2, relax(m, (V - self.V_rest) ** 2, self.tau_mean, self.dt)
        weight = self.add_pairs(weight, -self.w_max * self.A_LTD * low, pre)
        u_minus, u_plus = relax(u_minus, V, self.tau_minus, self.dt), relax(u_plus, V, self.tau_plus, self.dt)
        return weight, x + pre / self.tau_x, u_minus, u_plus, m

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, homeostasis={self.homeostasis}"
