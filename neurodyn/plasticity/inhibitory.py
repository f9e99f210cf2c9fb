"""Inhibitory plasticity that brings the rate of each neuron to a target."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class VogelsSprekeler(Plasticity):
    r"""Inhibitory plasticity: spikes of both sides that are near strengthen a synapse, those of the input weaken it.

    Traces x of the inputs and y of the outputs decay with $\tau$ and are increased by 1 at spikes. With these from
    before the spikes of the step,

    $\Delta w = \eta\, w_{max}\, x$ at a spike of the output,

    $\Delta w = \eta\, w_{max}\,(y - \alpha)$ at a spike of the input, $\alpha = 2 \rho\, \tau$.

    Inputs and outputs that spike independently leave the weights as they are if the output's rate is $\rho$. Weights
    of an inhibitory conductance are positive, the potential of `COBA` makes it inhibitory; those of a current are
    negative, and so is `w_max`.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        eta: change by one pair, in parts of `w_max` (0.001).
        tau: time constant of x and y (20 ms).
        rate: the target, $\rho$ (5 Hz).

    Example:
        >>> rule = nd.VogelsSprekeler(nd.OneToOne(1, weight=[-0.5] * u.pA), w_max=-1 * u.pA, eta=0.1)
        >>> _ = rule(torch.zeros(1), torch.ones(1)), rule(torch.ones(1), torch.zeros(1))
        >>> round(rule.weight.item(), 4)  # -0.5 - 0.1 (exp(-1 / 20) - 0.2)
        -0.5751

    Source: Vogels, Sprekeler, Zenke, Clopath and Gerstner (2011), Inhibitory plasticity balances excitation and
    inhibition in sensory pathways and memory networks, Science 334.
    """

    needs_bound = True
    eta: Param = param(0.001)
    tau: Param = param(20 * u.ms, domain=positive)
    rate: Param = param(5 * u.Hz, domain=nonnegative)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    y: State = state(default=0.0, alias="y_initializer", shape="size")

    def change(self, pre: Tensor, post: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, y = relax(x, 0.0, self.tau, self.dt), relax(y, 0.0, self.tau, self.dt)
        amplitude = self.eta * self.w_max
        weight = self.add_pairs(weight, post, amplitude * x)
        weight = self.add_pairs(weight, amplitude * y, pre)
        weight = self.add_pairs(weight, torch.zeros_like(y) - amplitude * 2 * self.rate * self.tau, pre)
        return weight, x + pre, y + post
