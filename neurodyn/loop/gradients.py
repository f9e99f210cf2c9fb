"""How gradients pass spikes: by surrogates, or by a way that a package above this one has put here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

#: By name: ``way(module, xs) -> ys``, in place of the loop.
WAYS: dict[str, Callable[[nn.Module, Any], Any]] = {}


def way_for(gradient: str, **options: Any) -> Callable[[nn.Module, Any], Any] | None:
    """The way of this name; None for surrogates, with which the loop runs.

    Raises:
        ValueError: an unknown name.
        TypeError: options that are given but mean nothing without a grid.
    """
    if gradient == "surrogate":
        return None
    if gradient not in WAYS:
        names = " or ".join(map(repr, ("surrogate", *WAYS)))
        raise ValueError(f"unroll: gradient must be {names}, got {gradient!r}")
    if given := [name for name, value in options.items() if value]:
        raise TypeError(
            f"unroll: gradient={gradient!r} runs in continuous time, without states of steps; leave out "
            f"{', '.join(given)}"
        )
    return WAYS[gradient]
