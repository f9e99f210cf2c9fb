"""One value for each synapse, scaled and added to, as an operator that torch.compile takes as it is::

    w <- bounded(factor w + gain other)

for all synapses, and no work at all where the gain is 0 and the factor 1, which is known only when it runs. On the CPU
the operator is C++, in the file of `add_pairs`; elsewhere and without a compiler plain torch, which computes always.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .in_place import bounded, define, through_bounds

_ops = torch.ops.neurodyn


def add_scaled(weight: Tensor, other: Tensor | None, gain: Tensor, factor: Tensor, bound: Tensor | None) -> Tensor:
    """The new values; gain, factor and bound are one number each, of the dtype of `weight`.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: a dtype that does not fit.
    """
    return _AddScaled.apply(weight, other, gain, factor, bound)


def plain(weight: Tensor, other: Tensor | None, gain: Tensor, factor: Tensor, bound: Tensor | None) -> Tensor:
    """The same in plain torch."""
    weight = weight * factor if other is None else weight * factor + gain * other
    return bounded(weight, bound)


define("event_add_scaled", "Tensor? other, Tensor gain, Tensor factor, Tensor? bound", plain)


class _AddScaled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _ops.event_add_scaled(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        weight, other, gain, factor, bound = ctx.saved_tensors
        if bound is not None:
            g = through_bounds(g, plain(weight, other, gain, factor, None), bound)
        of_other, of_gain = (None, None) if other is None else (g * gain, (g * other).sum().view_as(gain))
        return g * factor, of_other, of_gain, (g * weight).sum().view_as(factor), None
