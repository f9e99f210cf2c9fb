"""Tensors that stay in float32 or better, whatever the dtype of their module: counters and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .hidden import hidden_items


def precise(dtype: torch.dtype) -> torch.dtype:
    """`dtype`, or float32 in place of a shorter one, such as bfloat16, in which 256 + 1 is 256."""
    return torch.promote_types(dtype, torch.float32)


class Precise(nn.Module):
    """A module of which the buffers named in `_precise` stay in float32 or better, also in ``.bfloat16()``."""

    _precise: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        # every conversion of a module, and every move to a device, is a call of this
        before = {name: self._buffers.get(name) for name in self._precise}
        super()._apply(fn, *args, **kwargs)
        for name, value in hidden_items(self):
            self._buffers[name] = None if value is None else fn(value)
        for name, value in before.items():
            after = self._buffers.get(name)
            if value is None or after is None or not after.is_floating_point():
                continue
            if after.dtype != precise(after.dtype):
                self._buffers[name] = value.to(after.device, precise(after.dtype))
        return self
