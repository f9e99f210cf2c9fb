"""One value for each synapse, scaled and added to, as an operator that torch.compile takes as it is::

    w <- bounded(factor w + gain other)

for all synapses, and no work at all where the gain is 0 and the factor 1, which is known only when it runs. On the CPU
the operator is C++, in the file of `add_pairs`; elsewhere and without a compiler plain torch, which computes always.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("neurodyn", "FRAGMENT")
_ARGUMENTS = "Tensor? other, Tensor gain, Tensor factor, Tensor? bound"
_library.define(f"event_add_scaled(Tensor weight, {_ARGUMENTS}) -> Tensor")
_library.define(f"event_add_scaled_(Tensor(a!) weight, {_ARGUMENTS}) -> ()")
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
    return weight if bound is None else weight.clamp(bound.clamp(max=0), bound.clamp(min=0))


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
            new = plain(weight, other, gain, factor, None)
            g = g * ((new >= bound.clamp(max=0)) & (new <= bound.clamp(min=0)))
        of_other, of_gain = (None, None) if other is None else (g * gain, (g * other).sum().view_as(gain))
        return g * factor, of_other, of_gain, (g * weight).sum().view_as(factor), None


def _plain_in_place(weight: Tensor, *rest: Any) -> None:
    weight.copy_(plain(weight, *rest))


def _over_batch(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
    """The operator under vmap: one call after the other."""
    args = tuple(a if dim is None else a.movedim(dim, 0) for a, dim in zip(args, in_dims, strict=True))
    each = [[a if dim is None else a[i] for a, dim in zip(args, in_dims, strict=True)] for i in range(info.batch_size)]
    return torch.stack([_ops.event_add_scaled(*one) for one in each]), 0


_library.impl("event_add_scaled", plain, "CompositeExplicitAutograd")
_library.impl("event_add_scaled_", _plain_in_place, "CompositeExplicitAutograd")
torch.library.register_fake("neurodyn::event_add_scaled", lambda weight, *_: torch.empty_like(weight), lib=_library)
torch.library.register_fake("neurodyn::event_add_scaled_", lambda *_: None, lib=_library)
torch.library.register_vmap("neurodyn::event_add_scaled", _over_batch, lib=_library)
