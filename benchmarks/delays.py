"""Delays that learn far: ``python -m benchmarks.delays``, a minute on one core.

One spike, and a target in which it comes 20 ms later, or earlier, than the delay at the start would have it. The loss
is the squared difference, summed over time: 2 for two spikes that do not meet. Each seed has a start of its own.
Per neuron: `nd.Delay`. Per synapse: `nd.Sparse`, whose weight is learned too. The kernel is Gaussian and narrows from
`WIDE` to a quarter of a step; "linear" is the same task with linear interpolation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

SEEDS, STEPS, T, FAR = 10, 400, 90, 20
MAX, WIDE, NARROW = 60 * u.ms, 20.0, 0.25  # ms
LR = 0.05


def make(kind: str, interpolation: str, start: float) -> nn.Module:
    """A layer with one delay of `start` ms: of a neuron, or of a synapse."""
    width = {"sigma": WIDE * u.ms} if interpolation == "gaussian" else {}
    options = {"interpolation": interpolation, "max_delay": MAX, "dt": 1 * u.ms, **width}
    if kind == "neuron":
        return nd.Delay(1, start * u.ms, learn="delay", **options)
    return nd.Sparse(([0], [0]), (1, 1), weight=1.0, delay=start * u.ms, learn=("weight", "delay"), **options)


def loss_of(net: nn.Module, spike: Tensor, target: Tensor, compile: bool = False) -> Tensor:
    """The squared difference, summed over time."""
    return (nd.unroll(net, spike, compile=compile) - target).square().sum()


def train(kind: str, interpolation: str, seed: int, compile: bool = False) -> tuple[float, int]:
    """The last loss, and the step from which on it is below 1e-3; -1 if it never is."""
    random = torch.Generator().manual_seed(seed)
    start = 5 + 50 * torch.rand((), generator=random).item()
    wanted = round(start) + (FAR if start < 30 else -FAR)
    spike, target = torch.zeros(T, 1), torch.zeros(T, 1)
    spike[5], target[5 + wanted] = 1, 1
    net = make(kind, interpolation, start)
    optimizer = torch.optim.Adam(nd.parameter_groups(net, lr=LR), 0.01)
    below = -1
    for step in range(STEPS):
        loss = loss_of(net, spike, target, compile)
        below = (step if below < 0 else below) if loss < 1e-3 else -1
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if interpolation == "gaussian":
            nd.narrow_delays(net, (NARROW / WIDE) ** (1.25 / STEPS))
    return loss_of(net, spike, target, compile).item(), below


def main() -> None:
    for kind in ("neuron", "synapse"):
        for interpolation in ("gaussian", "linear"):
            found = [train(kind, interpolation, seed, compile=True) for seed in range(SEEDS)]
            solved = sum(loss < 1e-3 for loss, _ in found)
            worst, latest = max(loss for loss, _ in found), max(step for _, step in found)
            print(f"{kind:8} {interpolation:9} {solved} of {SEEDS} below 1e-3, worst {worst:.1e}, from step {latest}")


if __name__ == "__main__":
    main()
