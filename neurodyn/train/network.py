"""The network that ``neurodyn train`` trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


class Classifier(nn.Module):
    """A two-layer spiking classifier of sequences.

    Frames -> LIF -> (STP -> Linear -> Expon) -> LIF -> leaky readout, averaged over the frames of the sequence.
    Each frame is held for `hold` steps of 1 ms. Batch norms set the mean and deviation of the currents.

    Input: ``x`` (batch, frames, features) and ``length`` (batch,). Output: logits (batch, classes).
    """

    def __init__(self, features: int, classes: int, hidden: int = 256, hold: int = 4, dropout: float = 0.1):
        super().__init__()
        self.hold = hold
        # One time constant per neuron. The norms, and the rates of learning in loop.py, were chosen with these values.
        neuron: dict[str, Any] = {"tau": nd.init.Constant(5 * u.ms), "R": 1 * u.Gohm, "learn": "tau"}
        neuron["surrogate"] = nd.surrogate.ReluGrad()
        projection = nd.Projection(
            nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, hidden, bias=False)),
            plasticity=nd.STP(hidden, U=0.3, tau_f=20 * u.ms, tau_d=20 * u.ms),
            synapse=nd.Expon(hidden, tau=5 * u.ms),
        )
        self.layers = nn.Sequential(
            nn.Linear(features, hidden, bias=False),
            current_norm(hidden),
            nd.LIF(hidden, **neuron),
            projection,
            current_norm(hidden),
            nd.LIF(hidden, **neuron),
            nn.Dropout(dropout),
            nd.LeakyRateReadout(hidden, classes, tau=20 * u.ms),
        )

    def currents(self, x: Tensor) -> Tensor:
        """Frames with time in front, each repeated `hold` times."""
        return x.transpose(0, 1).repeat_interleave(self.hold, 0)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        r = nd.unroll(self.layers, self.currents(x))
        steps = length * self.hold
        valid = torch.arange(len(r), device=x.device)[:, None] < steps
        return 0.3 * (r * valid[..., None]).sum(0) / steps[:, None]


def current_norm(size: int, gain: float = 1.5, bias: float = 0.5) -> nn.BatchNorm1d:
    """A batch norm that starts with currents of mean `bias` and deviation `gain`, in pA."""
    norm = nn.BatchNorm1d(size)
    nn.init.constant_(norm.weight, gain)
    nn.init.constant_(norm.bias, bias)
    return norm
