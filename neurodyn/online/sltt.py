"""Gradients within each time step."""

from __future__ import annotations

from .learner import Learner


class SLTT(Learner):
    r"""SLTT: spatial learning through time. The gradient within each step, and none from step to step.

    $\frac{dL_t}{d\theta} \approx \frac{\partial L_t}{\partial\theta}$ with the states before the step as constants.

    For spiking neurons with surrogate gradients the derivative by V of a step before is small beside that within the
    step, so that this is enough for many feed-forward networks. SLTT-K, which learns from a few steps only, is to call
    `backward` at those.

    Cost: that of a forward and a backward pass of one step; no traces. Takes any network. A feedback connection learns
    from the step in which it arrives.

    Source: Meng, Xiao, Yan, Wang, Lin and Luo (2023), Towards memory- and time-efficient backpropagation for training
    spiking neural networks, ICCV.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), nd.LIF(5), torch.nn.Linear(5, 2))
        >>> learner = nd.online.SLTT(net)
        >>> for x in torch.rand(20, 4, 3):
        ...     learner.backward(learner(x).square().mean())
    """

    traced = False
