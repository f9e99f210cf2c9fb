"""STDP whose changes wait for a reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import units as u
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class RewardSTDP(Plasticity):
    r"""Reward-modulated STDP: pairs of spikes mark a synapse as eligible, a reward that comes later changes it.

    Traces x and y as those of `STDP`. The eligibility c of each synapse, for each sample, decays with $\tau_c$, and
    $\Delta c = A_+ x$ at a spike of the output, $\Delta c = -A_- y$ at one of the input. With the reward r(t)

    $\dot w = w_{max}\, r\, c / \tau_c$,

    so that with r = 1 at all times a pair changes the weight by as much as in additive STDP. The integral over a step
    is exact for a reward that is constant in it. Subtract the baseline of a reward first; a dopamine concentration with
    dynamics of its own is the output of an ``nd.Expon``.

    ``learn(post, reward=r)``: one number, or one for each sample, ``batch``.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        A_plus, A_minus: changes of c by one pair (0.005 and 0.00525).
        tau_plus, tau_minus: time constants of x and y (20 ms).
        tau_c: time constant of the eligibility (1 s).

    Example:
        >>> rule = nd.RewardSTDP(nd.OneToOne(2, weight=[0.5, 0.5]), w_max=1.0, A_plus=0.1, tau_c=100 * u.ms)
        >>> _ = rule(torch.tensor([1.0, 0.0]), torch.zeros(2), reward=0.0)
        >>> for t in range(300):  # both outputs spike once, and the reward is for them
        ...     _ = rule(torch.zeros(2), torch.full((2,), float(t == 0)), reward=1.0)
        >>> rule.weight
        tensor([0.5903, 0.5000])

    Source: Izhikevich (2007), Solving the distal reward problem through linkage of STDP and dopamine signaling,
    Cerebral Cortex 17; Frémaux and Gerstner (2016), Neuromodulated spike-timing-dependent plasticity, and theory of
    three-factor learning rules, Front Neural Circuits 9.
    """

    needs_bound = True
    A_plus: Param = param(0.005)
    A_minus: Param = param(0.00525)
    tau_plus: Param = param(20 * u.ms, domain=positive)
    tau_minus: Param = param(20 * u.ms, domain=positive)
    tau_c: Param = param(1000 * u.ms, domain=positive)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    y: State = state(default=0.0, alias="y_initializer", shape="size")
    c: State = state(default=0.0, alias="c_initializer", shape="synapses")

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, connection: nn.Module, **values: Any):
            super().__init__(connection, **values)
            self._check_signs()

    def change(  # type: ignore[override]
        self, pre: Tensor, post: Tensor, weight: Tensor, x: Tensor, y: Tensor, c: Tensor, *, reward: Tensor | float
    ) -> tuple[Tensor, ...]:
        x, y = relax(x, 0.0, self.tau_plus, self.dt), relax(y, 0.0, self.tau_minus, self.dt)
        left = relax(c, 0.0, self.tau_c, self.dt)  # c - left is the integral of c over the step, by tau_c
        given = reward
        if isinstance(reward, Tensor) and reward.dim():
            if tuple(reward.shape) != tuple(c.shape[: c.dim() - len(self.synapses)]):
                wanted = tuple(c.shape[: c.dim() - len(self.synapses)])
                raise ValueError(f"{self._label()}: reward has shape {tuple(reward.shape)}, wanted () or {wanted}")
            given = reward.to(c.dtype).reshape(*reward.shape, *(1 for _ in self.synapses))
        weight = self.bounded(weight + self.w_max * self.mean(given * (c - left)))
        left = left + self.A_plus * self.pairs(post, x) - self.A_minus * self.pairs(y, pre)
        return weight, x + pre, y + post, left
