"""D-RTRL with traces of rank one."""

from __future__ import annotations

from torch import Tensor, nn

from .drtrl import DRTRL
from .local import Key, Step
from .maps import add_grads_at


class ESDRTRL(DRTRL):
    r"""ES-D-RTRL, also called pp_prop: the traces of `DRTRL` as an outer product of two exponentially smoothed vectors.

    $\varepsilon^x_t = \alpha\,\varepsilon^x_{t-1} + x_t$ of the inputs,
    $\varepsilon^f_t = \alpha D_t\,\varepsilon^f_{t-1} + (1 - \alpha)\,\partial h_t / \partial a_t$ of the neurons, and
    $\frac{dh_t}{dW} \approx \frac{\varepsilon^f_t}{1 - \alpha^t} \otimes \varepsilon^x_t$ with t = 1, 2, ...

    The denominator takes the bias from the average of the first steps. Parameters that neurons declare have exact
    traces. It is an approximation at any decay; at alpha = 0 it is the gradient within each step alone.

    Cost: per step and sample O(inputs + states² x outputs) of each map, in time and memory; the weights themselves are
    used once per backward pass, as in backpropagation.

    Takes: linear maps of any kind, convolutions among them, whose outputs go to neurons one to one.

    Args:
        net: see `Learner`.
        decay: alpha, from 0 to below 1; n steps of memory are alpha = (n - 1) / (n + 1).

    Source: Wang, Dong, Jiang, Xiao, Jiang, Liu, Huan and Wu (2024), A scalable model-agnostic online learning
    framework for spiking neural networks, bioRxiv 2024.09.24.614728.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3), nd.LIF((4, 8)), torch.nn.Flatten(), torch.nn.Linear(32, 2))
        >>> learner = nd.online.ESDRTRL(net, decay=0.9)
        >>> for x in torch.rand(20, 6, 1, 10):
        ...     learner.backward(learner(x).square().mean())
        >>> net[0].weight.grad.shape
        torch.Size([4, 1, 3])
    """

    dense = False

    def __init__(self, net: nn.Module, decay: float = 0.9):
        if not 0 <= decay < 1:
            raise ValueError(f"ESDRTRL: decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        super().__init__(net)

    def forget(self) -> None:
        super().forget()
        self.steps = 0
        self.inputs: dict[int, tuple[Tensor, float]] = {}  # for each call of a map its input and that of its bias

    def exact(self, k: int) -> bool:
        """Not where there are traces, which hold the current step as well."""
        assert self.plan is not None
        return not any(("map", k) in sources for sources in self.plan.carried.values())

    def advance(self, step: Step) -> None:
        self.inputs, self.steps = self._smoothed(step), self.steps + 1
        super().advance(step)

    def _smoothed(self, step: Step) -> dict[int, tuple[Tensor, float]]:
        """The traces of inputs after the step."""
        found = {}
        for k, call in enumerate(step.calls):
            x, one = self.inputs.get(k, (0.0, 0.0))
            found[k] = self.decay * x + call.x.detach(), self.decay * one + 1
        return found

    def input_of(self, source: Key, step: Step) -> Tensor | None:
        return None

    def _advanced(self, source: Key, row: Key, slopes: dict[Key, Tensor], step: Step) -> Tensor:
        if source[0] == "map":
            slopes = {key: (1 - self.decay if key == source else self.decay) * slope for key, slope in slopes.items()}
        return super()._advanced(source, row, slopes, step)

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        smoothed, unbiased = self._smoothed(step), 1 - self.decay ** (self.steps + 1)
        own = {key: trace for key, trace in self.traces.items() if key[0][0] == "own"}
        factors: dict[int, Tensor] = {}
        for k, signal in enumerate(signals):
            if signal is not None and not self.exact(k):
                factors[k] = (1 - self.decay) * signal
        for (source, row), trace in self.traces.items():
            if source[0] == "map" and row in pulls:
                past = self.decay * pulls[row] * trace
                factors[source[1]] = factors[source[1]] + past if source[1] in factors else past
        for k, factor in factors.items():
            x, one = smoothed[k]
            add_grads_at(step.calls[k].map, x, factor / unbiased, one)
        everything, self.traces = self.traces, own
        super().collect(step, signals, pulls)
        self.traces = everything
