"""Spike-timing dependent plasticity of triplets of spikes."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class TripletSTDP(Plasticity):
    r"""STDP of pairs and triplets, which depends on rates as measured in slices.

    Traces x, x_slow of each input and y, y_slow of each output decay with $\tau_+, \tau_x, \tau_-, \tau_y$ and are
    increased by 1 at its spikes. With all of them from before the spikes of the step,

    $\Delta w = w_{max}\, x\,(A_2^+ + A_3^+\, y_{slow})$ at a spike of the output,

    $\Delta w = -w_{max}\, y\,(A_2^- + A_3^-\, x_{slow})$ at a spike of the input, in this order.

    The defaults are those of the visual cortex, all spikes pair with all; there are no nearest ones as in `STDP`.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        A2_plus, A3_plus, A2_minus, A3_minus: amplitudes in parts of `w_max` (5e-10, 6.2e-3, 7e-3, 2.3e-4).
        tau_plus, tau_x, tau_minus, tau_y: time constants (16.8, 101, 33.7 and 125 ms).

    Example:
        >>> rule = nd.TripletSTDP(nd.Sparse(([0, 1], [0, 0]), (2, 1), weight=0.4 * u.nS), w_max=1 * u.nS)
        >>> for _ in range(5):
        ...     _ = rule(torch.tensor([1.0, 0.0]), torch.tensor([1.0]))
        >>> bool(rule.weight[0] > rule.weight[1])
        True

    Source: Pfister and Gerstner (2006), Triplets of spikes in a model of spike timing-dependent plasticity,
    J Neurosci 26.
    """

    needs_bound = True
    A2_plus: Param = param(5e-10, domain=nonnegative)
    A3_plus: Param = param(6.2e-3, domain=nonnegative)
    A2_minus: Param = param(7e-3, domain=nonnegative)
    A3_minus: Param = param(2.3e-4, domain=nonnegative)
    tau_plus: Param = param(16.8 * u.ms, domain=positive)
    tau_x: Param = param(101 * u.ms, domain=positive)
    tau_minus: Param = param(33.7 * u.ms, domain=positive)
    tau_y: Param = param(125 * u.ms, domain=positive)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    x_slow: State = state(default=0.0, alias="x_slow_initializer", shape="pre_size")
    y: State = state(default=0.0, alias="y_initializer", shape="size")
    y_slow: State = state(default=0.0, alias="y_slow_initializer", shape="size")

    def change(  # type: ignore[override]
        self, pre: Tensor, post: Tensor, weight: Tensor, x: Tensor, x_slow: Tensor, y: Tensor, y_slow: Tensor
    ) -> tuple[Tensor, ...]:
        x, x_slow = relax(x, 0.0, self.tau_plus, self.dt), relax(x_slow, 0.0, self.tau_x, self.dt)
        y, y_slow = relax(y, 0.0, self.tau_minus, self.dt), relax(y_slow, 0.0, self.tau_y, self.dt)
        weight = self.add_pairs(weight, post * (self.A2_plus + self.A3_plus * y_slow), self.w_max * x)
        weight = self.add_pairs(weight, -self.w_max * y, pre * (self.A2_minus + self.A3_minus * x_slow))
        return weight, x + pre, x_slow + pre, y + post, y_slow + post
