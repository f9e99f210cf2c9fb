"""Real-time recurrent learning with diagonal Jacobians."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .learner import Learner
from .local import Call, Key, Step
from .maps import add_grad, add_matrix_grad, split


class DRTRL(Learner):
    r"""D-RTRL: forward-mode gradients that follow each neuron's own states, and no path from neuron to neuron in time.

    $\varepsilon_t = D_t\,\varepsilon_{t-1} + \frac{\partial h_t}{\partial a_t} \otimes x_t$

    for each linear map $a_t = W x_t$: $D_t = \partial h_t / \partial h_{t-1}$ holds, for each neuron, the derivatives
    between its own states (V, an adaptation, the synapse before it). Parameters that neurons declare, such as a
    learned tau, have traces with $\partial h_t / \partial \theta$ in place of the outer product. The gradient is
    $\sum_t \frac{\partial L_t}{\partial\theta} + \frac{\partial L_t}{\partial h_{t-1}} \varepsilon_{t-1}$.

    It equals backpropagation through time where each parameter acts on the loss through the states of its own neuron:
    for one layer of neurons without recurrence, with synapses before it and any layers without states after it. With
    recurrence, or further layers with states after it, paths through a linear map *and* through time are left out.

    Cost: per step and sample O(states² x weights) time, and one trace for each weight and each state of its neuron,
    whatever the number of steps.

    Takes: trained `nn.Linear`, the dense and sparse connections of neurodyn (a trace for each pair of neurons), and
    parameters declared with `nd.param`; convolutions and other parameters only if nothing in time depends on them.

    Source: Williams and Zipser (1989), A learning algorithm for continually running fully recurrent neural networks,
    Neural Computation 1; the diagonal form: Wang, Dong, Jiang, Xiao, Jiang, Liu, Huan and Wu (2024), A scalable
    model-agnostic online learning framework for spiking neural networks, bioRxiv 2024.09.24.614728.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), nd.LIF(5, learn="tau"), torch.nn.Linear(5, 2))
        >>> learner = nd.online.DRTRL(net)
        >>> for x in torch.rand(20, 4, 3):  # time, batch, features
        ...     learner.backward(learner(x).square().mean())
        >>> net[0].weight.grad.shape
        torch.Size([5, 3])
    """

    dense = True
    memory = ("traces",)

    def forget(self) -> None:
        self.traces: dict[tuple[Key, Key], Tensor] = {}  # by what is learned, and the state that carries it

    def begin(self, slopes: dict[tuple[Key, Key], Tensor]) -> None:
        assert self.plan is not None
        self.traces = {key: slope for key, slope in slopes.items() if key[1] in self.plan.rows}

    def advance(self, step: Step) -> None:
        assert self.plan is not None
        for source in self.plan.sources:
            self.follow(source, source, step, with_one(step.calls[source[1]]) if source[0] == "map" else None)

    def follow(
        self, label: Key, source: Key, step: Step, x: Tensor | None, keep: float = 1.0, gain: float = 1.0
    ) -> None:
        """Bring the traces of `source` to the time after the step: its slopes times x are added to what is kept."""
        assert self.plan is not None
        new = {}
        for row, slopes in step.rows.items():
            if source not in self.plan.carried[row]:
                continue
            total: Any = None
            for key, slope in slopes.items():
                old = self.traces.get((label, key))
                if old is not None:
                    slope = slope if x is None else slope.unsqueeze(-1)
                    total = old * (keep * slope) if total is None else total.addcmul_(old, keep * slope)
            if source in slopes:
                slope, values = gain * slopes[source], torch.ones_like(slopes[source])
                slope, values = (slope, values) if x is None else (slope.unsqueeze(-1), x.unsqueeze(-2))
                total = slope * values if total is None else total.addcmul_(slope, values)
            if total is not None:
                new[label, row] = total
        self.traces = self.traces | new

    def pulled(self, label: Key, pulls: dict[Key, Tensor]) -> Tensor | None:
        """The gradient by what the traces of `label` are of: their product with the gradients by states."""
        total = None
        for (of, row), trace in self.traces.items():
            if of == label and row in pulls:
                pull = pulls[row] if trace.dim() == pulls[row].dim() else pulls[row].unsqueeze(-1)
                total = pull * trace if total is None else total.addcmul_(pull, trace)
        return total

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        assert self.plan is not None
        for source in self.plan.sources:
            grad = self.pulled(source, pulls)
            if grad is not None and source[0] == "map":
                add_trained(step.calls[source[1]], grad.flatten(0, -3).sum(0) if grad.dim() > 2 else grad)
            elif grad is not None:
                parameter = self.own[source[1]].parameter
                add_grad(parameter, grad.sum_to_size(parameter.shape))


def with_one(call: Call) -> Tensor:
    """The input of a call of a map, and a 1 after it if there is a bias to train."""
    x = call.x.detach()
    return x if split(call.map)[1] is None else torch.cat((x, torch.ones_like(x[..., :1])), -1)


def add_trained(call: Call, grad: Tensor) -> None:
    """Add the gradient of a matrix, and of the bias in the last column if it is trained."""
    _, bias = split(call.map)
    if bias is not None:
        add_grad(bias, grad[:, -1].sum_to_size(bias.shape))
        grad = grad[:, :-1]
    add_matrix_grad(call.map, grad)
