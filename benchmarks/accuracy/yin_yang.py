"""Yin-Yang: in which of three parts of the symbol is a point? Its coordinates are spike times.

Generated as Kriener, Goeltz and Petrovici define it (2022, The Yin-Yang dataset, NICE): points (x, y) of a disc of
radius 0.5 around (0.5, 0.5), equally often of each class, with (1 - x, 1 - y) beside them; 5,000 for training, 1,000
for validation, 1,000 for the test, each from a seed of its own. A neuron for each of the four numbers spikes once.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from .task import Part, Parts, Published, Task

RADIUS, DOT, CLASSES, HIDDEN = 0.5, 0.1, 3, 120
DT, LONGEST, T = 0.25, 20.0, 120  # ms, ms, steps: 30 ms


def classes(x: Tensor, y: Tensor) -> Tensor:
    """0: yin; 1: yang, which has the left half of the upper side bulging down; 2: one of the two dots."""
    left, right = (torch.hypot(x - k * RADIUS, y - RADIUS) for k in (0.5, 1.5))
    yang = (right <= DOT) | ((left > DOT) & (left <= RADIUS / 2)) | ((y > RADIUS) & (right > RADIUS / 2))
    return torch.where((left < DOT) | (right < DOT), 2, yang.long())


def draw(count: int, seed: int) -> Part:
    """So many points, each of a class that is drawn first."""
    random = torch.Generator().manual_seed(seed)
    wanted = torch.randint(CLASSES, (count,), generator=random)
    points = torch.zeros(count, 2)
    missing = torch.arange(count)
    while len(missing):
        x, y = 2 * RADIUS * torch.rand(2, len(missing), generator=random)
        fits = (torch.hypot(x - RADIUS, y - RADIUS) <= RADIUS) & (classes(x, y) == wanted[missing])
        points[missing[fits]] = torch.stack([x, y], 1)[fits]
        missing = missing[~fits]
    return Part(torch.cat([points, 1 - points], 1), wanted)


def load(_: Path | None) -> Parts:
    return Parts(draw(5000, 42), draw(1000, 41), draw(1000, 40))


def drive(x: Tensor, _: bool) -> Tensor:
    """One spike of each of five inputs: at 20 ms times its number, and the fifth at the start."""
    times = torch.cat([x * LONGEST / DT, torch.zeros(len(x), 1)], 1).round().long()
    return nn.functional.one_hot(times, T).permute(2, 0, 1).float()


class Network(nn.Module):
    """Spikes -> exponential synapses -> LIF -> leaky readout; the highest value of each class is its score."""

    def __init__(self) -> None:
        super().__init__()
        dt = DT * u.ms
        surrogate = nd.surrogate.InvSquareGrad(alpha=5)  # the default has not been measured here
        hidden = nd.LIF(HIDDEN, tau=nd.init.Constant(10 * u.ms), surrogate=surrogate, learn="tau", dt=dt)
        self.layers = nn.Sequential(
            nn.Linear(5, HIDDEN, bias=False),
            nd.Expon(HIDDEN, tau=nd.init.Constant(5 * u.ms), learn="tau", dt=dt),
            hidden,
            nd.LeakyRateReadout(HIDDEN, CLASSES, tau=nd.init.Constant(10 * u.ms), learn="tau", dt=dt),
        )
        nd.init.fluctuation_driven_(self.layers, drive(draw(256, 1).x, False), xi=1.0)

    def forward(self, xs: Tensor) -> Tensor:
        return nd.unroll(self.layers, xs, progress=False).amax(0)


TASK = Task(
    name="yin_yang",
    load=load,
    build=Network,
    drive=drive,
    network=f"{HIDDEN} LIF, one spike per input",
    epochs=60,
    batch=100,
    lr=0.005,
    seeds=(0, 1, 2),
    published=(
        Published("98.7", "perceptron of 120 units; Kriener, Goeltz and Petrovici 2022, reference results"),
        Published("64.3", "no hidden layer; the same"),
    ),
)
