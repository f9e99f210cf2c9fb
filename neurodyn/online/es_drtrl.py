"""D-RTRL with traces of rank one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .drtrl import DRTRL
from .local import Key, Step
from .maps import add_bias_grad, add_grad, add_weight_grads_at, split


class ESDRTRL(DRTRL):
    r"""ES-D-RTRL, also called pp_prop: the traces of `DRTRL` as an outer product of two exponentially smoothed vectors.

    $\varepsilon^x_t = \alpha\,\varepsilon^x_{t-1} + x_t$ of the inputs,
    $\varepsilon^f_t = \alpha D_t\,\varepsilon^f_{t-1} + (1 - \alpha)\,\partial h_t / \partial a_t$ of the neurons, and
    $\frac{dh_t}{dW} \approx \frac{\varepsilon^f_t}{1 - \alpha^t} \otimes \varepsilon^x_t$ with t = 1, 2, ...

    The denominator takes the bias from the average of the first steps. Biases, and parameters that neurons declare,
    have the exact traces of D-RTRL, which cost no more. The rest is an approximation at any decay; at alpha = 0 it is
    the gradient within each step alone.

    Cost: per step and sample O(inputs + states² x outputs) of each map, in time and memory; the weights themselves are
    used once per backward pass, as in backpropagation.

    Takes: linear maps of any kind, convolutions among them, whose outputs go to neurons one to one.

    Args:
        net: see `Learner`.
        decay: alpha, from 0 to below 1; n steps of memory are alpha = (n - 1) / (n + 1).
        compile: see `Learner`.

    Source: Wang, Dong, Jiang, Xiao, Jiang, Liu, Huan and Wu (2024), A scalable model-agnostic online learning
    framework for spiking neural networks, bioRxiv 2024.09.24.614728.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3), nd.LIF((4, 8)), torch.nn.Linear(8, 2))
        >>> learner = nd.online.ESDRTRL(net, decay=0.9)
        >>> for x in torch.rand(20, 6, 1, 10):
        ...     learner.backward(learner(x).square().mean())
        >>> net[0].weight.grad.shape
        torch.Size([4, 1, 3])
    """

    dense = False
    memory = ("traces", "inputs", "ones")

    def __init__(self, net: nn.Module, decay: float = 0.9, *, compile: bool = True):
        if not 0 <= decay < 1:
            raise ValueError(f"ESDRTRL: decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        super().__init__(net, compile=compile)

    def forget(self) -> None:
        super().forget()
        self.inputs: dict[int, Tensor] = {}  # the smoothed input of each call of a map
        self.ones: dict[str, Tensor] = {}  # and that of an input of 1

    def exact(self, k: int) -> bool:
        """Not where there are traces, which hold the current step as well."""
        assert self.plan is not None
        return ("map", k) not in self.plan.sources

    def advance(self, step: Step) -> None:
        assert self.plan is not None
        self.inputs, self.ones = self._smoothed(step)
        for source in self.plan.sources:
            if source[0] == "own":
                self.follow(source, source, step, None)
                continue
            self.follow(source, source, step, None, self.decay, 1 - self.decay)
            if split(step.calls[source[1]].map)[1] is not None:
                self.follow(("bias", source[1]), source, step, None)

    def _smoothed(self, step: Step) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """The smoothed inputs after the step, and that of 1."""
        inputs = {k: self.decay * self.inputs.get(k, 0.0) + call.x.detach() for k, call in enumerate(step.calls)}
        return inputs, {"of 1": self.decay * self.ones.get("of 1", torch.zeros((), dtype=torch.float64)) + 1}

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        assert self.plan is not None
        smoothed, ones = self._smoothed(step)
        unbiased = (1 - self.decay) * ones["of 1"]
        for source in self.plan.sources:
            past = self.pulled(source, pulls)
            if source[0] == "own":
                parameter = self.own[source[1]].parameter
                add_grad(parameter, None if past is None else past.sum_to_size(parameter.shape))
                continue
            k = source[1]
            signal = 0.0 if signals[k] is None else signals[k]
            factor = (1 - self.decay) * signal + self.decay * (0.0 if past is None else past)
            if isinstance(factor, Tensor):
                add_weight_grads_at(step.calls[k].map, smoothed[k], factor / unbiased)
            old = self.pulled(("bias", k), pulls)
            factor = signal + (0.0 if old is None else old)
            if isinstance(factor, Tensor):
                add_bias_grad(step.calls[k].map, factor)
