"""Functions that `simulate` calls between two steps, every so often."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import check

Function = Callable[[nn.Module, u.Quantity], Any]


def steps_in(duration: Any, dt: float, name: str = "duration") -> int:
    """The number of steps in a duration, which must be whole."""
    time = float(check(duration, u.canonical_unit("ms"), (), f"simulate: {name}", None, torch.float64))
    T = round(time / dt)
    if T < 1 or abs(time / dt - T) > 1e-6 * T:
        raise ValueError(f"simulate: {name} must be a positive multiple of dt={dt:g} ms, got {time:g} ms")
    return T


class Calls:
    """What is called, and after which steps.

    Args:
        net: what the functions get.
        dt: time step in ms.
        every, until: as for `simulate`.

    Attributes:
        over: whether a condition of `until` was true.
    """

    def __init__(self, net: nn.Module, dt: float, every: Any, until: Any):
        self.net, self.dt, self.over = net, dt, False
        self.every, self.until = _pairs(every, dt, "every"), _pairs(until, dt, "until")

    @property
    def periods(self) -> tuple[int, ...]:
        """The steps between two calls, of each function."""
        return tuple(period for period, _ in (*self.every, *self.until))

    def due(self, step: int) -> bool:
        """Whether something is to be called after so many steps."""
        return any(step % period == 0 for period in self.periods)

    def __call__(self, step: int) -> None:
        """Call what is due; all functions, and then the conditions."""
        t = u.quantity(step * self.dt, "ms")
        for period, function in self.every:
            if step % period == 0:
                function(self.net, t)
        self.over = any([_is_true(condition(self.net, t)) for period, condition in self.until if step % period == 0])


def _is_true(found: Any) -> bool:
    """What a condition has returned, as one truth value; None is not true."""
    if (
        found is None
        or isinstance(found, (int, float, np.generic))
        or (isinstance(found, Tensor) and found.numel() == 1)
    ):
        return bool(found)
    shape = f" of shape {tuple(found.shape)}" if isinstance(found, (Tensor, np.ndarray)) else f" ({found!r})"
    raise TypeError(
        f"simulate: a condition of until returned a {type(found).__name__}{shape}, wanted True or False; "
        "of many values say .any() or .all()"
    )


def chunk_for(periods: tuple[int, ...], usual: int) -> int:
    """The length of chunks, at most the usual one, with the fewest calls between two functions."""
    common = math.gcd(*periods)
    return min(range(1, usual + 1), key=lambda n: (common // n + common % n, -n)) if common else usual


def _pairs(given: Any, dt: float, name: str) -> list[tuple[int, Function]]:
    """Periods in steps, and functions, of one pair or of a list of them."""
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], (tuple, list)):
        given = [given]
    example = f"{name}=(10 * u.ms, f) with f(net, t), or a list of such pairs"
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"simulate: {name} is a {type(given).__name__}, wanted {example}")
    found = []
    for pair in given:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not callable(pair[1]):
            raise TypeError(f"simulate: {name} holds {pair!r}, wanted {example}")
        found.append((steps_in(pair[0], dt, f"the interval of {name}"), pair[1]))
    return found
