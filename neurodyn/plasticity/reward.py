"""STDP whose changes wait for a reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import UnsetState
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from ..ops.add_pairs import add_pairs
from ..ops.add_scaled import add_scaled
from .base import Plasticity

_LEAST = 1e-6  # of what is left of a mark before marks are scaled


class RewardSTDP(Plasticity):
    r"""Reward-modulated STDP: pairs of spikes mark a synapse as eligible, a reward that comes later changes it.

    Traces x and y as those of `STDP`. The eligibility c of each synapse, for each sample, decays with $\tau_c$, and
    $\Delta c = A_+ x$ at a spike of the output, $\Delta c = -A_- y$ at one of the input. With the reward r(t)

    $\dot w = w_{max}\, r\, c / \tau_c$,

    so that with r = 1 at all times a pair changes the weight by as much as in additive STDP. The integral over a step
    is exact for a reward that is constant in it. Subtract the baseline of a reward first; a dopamine concentration with
    dynamics of its own is the output of an ``nd.Expon``.

    ``learn(post, reward=r)``: one number, or one for each sample, ``batch``. For a reward that is known after a trial
    only, each step has ``reward=0.0``, and ``deliver(r)`` comes after it.

    States: the eligibility is ``c = marks * left``, where `left`, one number, decays in place of all c, and pairs of
    spikes add to the `marks` of their synapses. When `left` has become 1e-6, marks take its place and it is 1 again.

    Cost: on a sparse connection on the CPU, without a batch, a step without reward goes with the spikes, as that of
    `STDP`; one with a reward other than 0 changes all weights. Elsewhere each step computes all synapses.

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
    marks: State = state(default=0.0, alias="marks_initializer", shape="synapses")
    left: State = state(default=1.0, alias="left_initializer", learnable=False, shape=(), shared=True)

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, connection: nn.Module, **values: Any):
            super().__init__(connection, **values)
            self._check_signs()

    @property
    def c(self) -> Tensor:
        """The eligibility of each synapse, ``(*batch, *synapses)``."""
        return self.marks * self.left.to(self.marks.dtype)

    def change(  # type: ignore[override]
        self,
        pre: Tensor,
        post: Tensor,
        weight: Tensor,
        x: Tensor,
        y: Tensor,
        marks: Tensor,
        left: Tensor,
        *,
        reward: Tensor | float,
    ) -> tuple[Tensor, ...]:
        x, y = relax(x, 0.0, self.tau_plus, self.dt), relax(y, 0.0, self.tau_minus, self.dt)
        given = self._reward(reward, marks)
        gain = given * self.w_max * left * -torch.expm1(-self.dt / self.tau_c)  # of the integral over the step
        left = relax(left, 0.0, self.tau_c, self.dt)
        factor = torch.where(left < _LEAST, left, 1.0)
        left = torch.where(left < _LEAST, 1.0, left)
        factor, up, down = [value.to(marks.dtype) for value in (factor, self.A_plus / left, -self.A_minus / left)]
        if self._by_spikes(marks):
            weight = add_scaled(weight, marks, gain.to(weight.dtype).view(()), torch.ones_like(factor), self.w_max)
            marks = add_scaled(marks, None, torch.zeros_like(factor), factor, None)
            marks = self._marked(self._marked(marks, post, up * x), down * y, pre)
        else:
            weight = self.bounded(weight + self.mean(gain.to(marks.dtype) * marks))
            marks = marks * factor + self.pairs(post, up * x) + self.pairs(down * y, pre)
        return weight, x + pre, y + post, marks, left

    def deliver(self, reward: Tensor | float) -> None:
        r"""Change the weights by a reward that comes after a trial in which steps had none: $\Delta w = w_{max} r c$.

        It is what this reward would do if it stayed until the eligibility has decayed. The eligibility stays, until
        states are reset as by the next `nd.unroll`.

        Args:
            reward: one number, or one for each sample, ``batch``, whose changes are averaged for shared weights.

        Raises:
            UnsetState: before the first step.
            ValueError: a reward of another shape.
            TypeError: a reward with a unit.
        """
        if not self.is_set:
            raise UnsetState(f"{self._label()}: deliver() comes after the steps of a trial")
        self._refuse_quantities({"reward": reward})
        self._stepped(self._delivered, reward)

    def _delivered(self, reward: Tensor | float, weight: Tensor, *rest: Tensor) -> tuple[Any, ...]:
        *_, marks, left = rest
        gain = (self._reward(reward, marks) * self.w_max * left).to(marks.dtype)
        return None, self.bounded(weight + self.mean(gain * marks)), *rest

    def _by_spikes(self, marks: Tensor) -> bool:
        return self.layout.kind == "pairs" and marks.dim() == 1 and marks.device.type == "cpu"

    def _marked(self, marks: Tensor, post: Tensor, pre: Tensor) -> Tensor:
        post, pre = self.layout.flat(post, self.layout.post), self.layout.flat(pre, self.layout.pre)
        return add_pairs(marks, post, pre, self.layout.matrix, None)

    def _reward(self, reward: Tensor | float, marks: Tensor) -> Tensor | float:
        """The reward as it multiplies values of synapses.

        Raises:
            ValueError: a reward of another shape than those of one number or the batch.
        """
        if not isinstance(reward, Tensor):
            return reward
        given = reward.to(marks.dtype)
        wanted = tuple(marks.shape[: marks.dim() - len(self.synapses)])
        if given.dim() and tuple(given.shape) != wanted:
            raise ValueError(f"{self._label()}: reward has shape {tuple(given.shape)}, wanted () or {wanted}")
        return given.reshape(*given.shape, *(1 for _ in self.synapses)) if given.dim() else given
