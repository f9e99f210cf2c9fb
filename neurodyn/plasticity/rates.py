"""Rules for rates: Oja's, and that of Bienenstock, Cooper and Munro."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class Oja(Plasticity):
    r"""Oja's rule: $\Delta w = \eta\, y\,(x - y\, w)$ in each step, for rates x and y.

    It is a rule for rates, and each step computes all synapses.

    For $y = w \cdot x$ the weights come to the first principal component of the inputs, with length 1.

    Args:
        connection, w_max, weights, values: see `Plasticity`.
        eta: learning rate of a step (0.01).

    Example:
        >>> rule = nd.Oja(torch.nn.Linear(2, 1, bias=False))
        >>> for _ in range(2000):
        ...     x = torch.tensor([3.0, 4.0])
        ...     rule.learn(rule(x))
        >>> rule.weight.abs()
        tensor([[0.6000, 0.8000]])

    Source: Oja (1982), Simplified neuron model as a principal component analyzer, J Math Biol 15.
    """

    eta: Param = param(0.01, domain=nonnegative)

    def change(self, pre: Tensor, post: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        shrink = self.mean(self.layout.of_post(post * post))
        return self.bounded(weight + self.eta * (self.outer(post, pre) - shrink * weight))


class BCM(Plasticity):
    r"""The rule of Bienenstock, Cooper and Munro: $\Delta w = \eta\, x\, y\,(y - \theta)$ in each step.

    The threshold follows the output, $\tau \dot\theta = y^2/y_0 - \theta$, one for each output. It is shared by the
    batch, as the mean, and lasts, where the weights do. It is a rule for rates, and each step computes all synapses.

    Args:
        connection, w_max, weights, values: see `Plasticity`.
        eta: learning rate of a step (0.01).
        tau: time constant of the threshold (100 ms).
        y_0: the output at which it rests (1).

    Example:
        >>> rule = nd.BCM(nd.OneToOne(1, weight=[0.5]), tau=10 * u.ms)
        >>> for _ in range(3000):
        ...     rule.learn(rule(torch.ones(1)))
        >>> rule.weight, rule.theta
        (tensor([1.0000]), tensor([1.0000]))

    Source: Bienenstock, Cooper and Munro (1982), Theory for the development of neuron selectivity, J Neurosci 2; in the
    form of Intrator and Cooper (1992), Neural Networks 5.
    """

    eta: Param = param(0.01, domain=nonnegative)
    tau: Param = param(100 * u.ms, domain=positive)
    y_0: Param = param(1.0, domain=positive)

    theta: State = state(default=0.0, alias="theta_initializer", shape="size", lasting=True)

    def change(self, pre: Tensor, post: Tensor, weight: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        weight = self.bounded(weight + self.eta * self.outer(post * (post - theta), pre))
        squares = self.mean(post * post / self.y_0, self.size)
        return weight, relax(theta, squares, self.tau, self.dt)
