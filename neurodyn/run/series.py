"""`constant` and `series`: what an input of `simulate` is over time, where its shape alone does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Timed:
    """An input and whether it varies: has a row for each step. Made by `constant` and `series`."""

    value: Any
    varies: bool

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


def series(values: Any) -> Timed:
    """`values` as an input of `simulate` with one row for each step.

    Example:
        >>> xs = torch.rand(50, 3)  # 50 steps, 3 neurons
        >>> recording = nd.simulate(nd.LIF(3), 50 * u.ms, nd.series(xs), compile=False)
    """
    return Timed(values, True)
