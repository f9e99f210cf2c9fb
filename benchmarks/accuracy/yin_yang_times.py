"""Yin-Yang by exact gradients of spike times: the class is the output neuron that spikes first; see `yin_yang`.

Time is continuous, and there is no surrogate: `nd.spike_times`, whose gradients are those of EventProp (Wunderlich and
Pehle 2021). Inputs spike once, between 10 and 40 ms, and a bias at 20 ms. A neuron that does not spike has no gradient:
so one more input of each layer spikes at the end, with weights that make all neurons spike that have not done so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from .task import Published, Task
from .yin_yang import CLASSES, load

HIDDEN, FIRST, LAST, BIAS, UNTIL = 200, 10.0, 40.0, 20.0, 75.0  # of times: ms
AT_LAST = {"hidden": (40.0, 12.0), "out": (50.0, 20.0)}  # when the last input of a layer spikes (ms), and its weights
UNIT = 0.5  # of a score, ms
PULL, SOON = 1e-4, 6.4  # how strongly the right neuron is pulled to spike soon, and the time (ms) in the exponential


def drive(x: Tensor, _: bool) -> Tensor:
    """Spike times (batch, 6, 1)."""
    more = torch.tensor([BIAS, AT_LAST["hidden"][0]]).expand(len(x), 2)
    return torch.cat([FIRST + x * (LAST - FIRST), more], 1)[..., None]


class Network(nn.Module):
    """Spike times -> exponential synapses -> LIF, twice; the earlier the first spike, the higher the score."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layer(5, HIDDEN, 1.5, 0.78, AT_LAST["hidden"][1])
        self.out = layer(HIDDEN, CLASSES, 0.93, 0.2, AT_LAST["out"][1])

    def forward(self, times: Tensor) -> Tensor:
        hidden = nd.spike_times(self.hidden, times, UNTIL)[..., :1]
        last = torch.full_like(hidden[:, :1], AT_LAST["out"][0])
        first = nd.spike_times(self.out, torch.cat([hidden, last], 1), UNTIL)[..., 0]
        return -torch.where(first.isfinite(), first, UNTIL) / UNIT


def layer(inputs: int, outputs: int, mean: float, deviation: float, at_last: float) -> nn.Sequential:
    """Weights of a normal distribution, beside those of the input that spikes at the end."""
    linear = nn.Linear(inputs + 1, outputs, bias=False)
    nn.init.normal_(linear.weight[:, :-1], mean, deviation)
    nn.init.constant_(linear.weight[:, -1], at_last)
    once = -1e4 * u.mV  # so that each neuron spikes once at most
    synapse = nd.Expon(outputs, tau=5 * u.ms)
    return nn.Sequential(linear, synapse, nd.LIF(outputs, tau=20 * u.ms, R=1 * u.Gohm, V_reset=once))


def late(scores: Tensor, labels: Tensor) -> Tensor:
    """The regulariser of Wunderlich and Pehle: without it all outputs may come later and later."""
    time = -UNIT * scores.gather(1, labels[:, None])
    return PULL * torch.expm1(time / SOON).mean()


TASK = Task(
    name="yin_yang_times",
    load=load,
    build=Network,
    drive=drive,
    network=f"{HIDDEN} LIF, exact spike times",
    epochs=14,
    batch=32,
    lr=0.005,
    clip=0.5,
    extra=late,
    seeds=(0, 1, 2),
    published=(
        Published("98.1", "200 LIF, EventProp with first-spike times; Wunderlich and Pehle 2021"),
        Published("98.7", "perceptron of 120 units; Kriener, Goeltz and Petrovici 2022, reference results"),
    ),
    bar=97.6,
)
