"""The network of NEST's tests of e-prop: inputs, a recurrent layer without connections to oneself, a leaky readout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd


class Readout(nd.Dynamics):
    r"""$r \gets \lambda r + (1 - \lambda) x$."""

    r = nd.state(0.0)

    def __init__(self, size: int, leak: float, **values: Any) -> None:
        super().__init__(size, **values)
        self.leak = leak

    def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        r = self.leak * r + (1 - self.leak) * x
        return r, r


class Network(nn.Module):
    """Returns the readout and the spikes."""

    def __init__(self, inputs: int, neurons: nd.Dynamics, outputs: int, leak: float) -> None:
        super().__init__()
        (n,) = neurons.size
        self.enter, self.out = nn.Linear(inputs, n, bias=False), nn.Linear(n, outputs, bias=False)
        self.layer = nd.Recurrent(neurons, nd.MaskedLinear(n, n, mask=1 - torch.eye(n)))
        self.readout = Readout(outputs, leak)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.layer(self.enter(x))
        return self.readout(self.out(z)), z
