"""What operators that change one value for each synapse share: two forms, bounds, and their rules for torch.

Such an operator returns the new values, ``event_x``; its twin ``event_x_`` writes them over the first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("neurodyn", "FRAGMENT")
_ops = torch.ops.neurodyn


def define(name: str, arguments: str, plain: Callable[..., Tensor]) -> None:
    """Make both forms of an operator.

    Args:
        name: of the form that returns the new values, ``event_x``.
        arguments: those after the first one, ``Tensor weight``, in torch's language of schemas.
        plain: the new values, in plain torch, where there is nothing faster.
    """

    def in_place(weight: Tensor, *rest: Any) -> None:
        weight.copy_(plain(weight, *rest))

    def one_by_one(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        args = tuple(a if dim is None else a.movedim(dim, 0) for a, dim in zip(args, in_dims, strict=True))
        each = [
            [a if dim is None else a[i] for a, dim in zip(args, in_dims, strict=True)] for i in range(info.batch_size)
        ]
        return torch.stack([getattr(_ops, name)(*one) for one in each]), 0

    _library.define(f"{name}(Tensor weight, {arguments}) -> Tensor")
    _library.define(f"{name}_(Tensor(a!) weight, {arguments}) -> ()")
    _library.impl(name, plain, "CompositeExplicitAutograd")
    _library.impl(f"{name}_", in_place, "CompositeExplicitAutograd")
    torch.library.register_fake(f"neurodyn::{name}", lambda weight, *_: torch.empty_like(weight), lib=_library)
    torch.library.register_fake(f"neurodyn::{name}_", lambda *_: None, lib=_library)
    torch.library.register_vmap(f"neurodyn::{name}", one_by_one, lib=_library)


def bounded(weight: Tensor, bound: Tensor | None) -> Tensor:
    """Between 0 and the bound, which may be negative."""
    return weight if bound is None else weight.clamp(bound.clamp(max=0), bound.clamp(min=0))


def through_bounds(g: Tensor, weight: Tensor, bound: Tensor | None) -> Tensor:
    """The gradient by `weight` of what `bounded` gives, for the gradient g by its result."""
    return g if bound is None else g * ((weight >= bound.clamp(max=0)) & (weight <= bound.clamp(min=0)))
