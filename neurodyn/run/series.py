"""`constant` and `series`: what an input of `simulate` is over time, where its shape alone does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Timed:
    """An input and whether it varies: has rows in time. Made by `constant` and `series`.

    Attributes:
        value: the input.
        varies: whether it has a row for each time.
        dt: the time of a row, a quantity; that of a step if it is None.
        every: the number of steps of a row, when the time step is known.
    """

    value: Any
    varies: bool
    dt: Any = None
    every: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.value, Timed):
            raise TypeError(f"{self.value} is already marked; mark an input once, with nd.constant or nd.series")


def constant(value: Any) -> Timed:
    """`value` as an input of `simulate` that is the same in every step.

    Example:
        >>> I = torch.linspace(0, 2, 50)  # pA, for each of 50 neurons
        >>> recording = nd.simulate(nd.LIF(50), 50 * u.ms, nd.constant(I), compile=False)
    """
    return Timed(value, False)


def series(values: Any, dt: Any = None) -> Timed:
    """`values` as an input of `simulate` with one row for each step, or for each time `dt`.

    Args:
        values: rows in time; the first one begins with the simulation. A single number in a row is meant for all
            neurons.
        dt: for so long each row is the input, a quantity, a multiple of the time step of the network.

    Example:
        >>> xs = torch.rand(50, 3)  # 50 steps, 3 neurons
        >>> recording = nd.simulate(nd.LIF(3), 50 * u.ms, nd.series(xs), compile=False)
        >>> net = nd.LIF(3, dt=0.1 * u.ms)
        >>> recording = nd.simulate(net, 50 * u.ms, nd.series(xs, dt=1 * u.ms), compile=False)
    """
    return Timed(values, True, dt)
