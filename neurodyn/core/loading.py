"""What `load_state_dict` does beyond torch: tensors take the shapes that they have in the file, where that fits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def take_shape(module: nn.Module, name: str, value: object) -> None:
    """Give the parameter or buffer `name` of `module` the shape of `value`; torch then loads the values.

    A parameter stays the same object, so that its optimizer keeps it.
    """
    mine = module._parameters.get(name, module._buffers.get(name))
    if mine is None or not isinstance(value, Tensor) or mine.shape == value.shape:
        return
    if name in module._parameters:
        with torch.no_grad():
            mine.grad = None
            mine.data = mine.new_empty(value.shape)
    else:
        module._buffers[name] = mine.new_empty(value.shape)


def broadcasts(value: object, size: tuple[int, ...], batched: bool = False) -> bool:
    """Whether `value` is a tensor that broadcasts to `size`, or if `batched` to ``(*batch, *size)``."""
    if not isinstance(value, Tensor) or (value.dim() > len(size) and not batched):
        return False
    return all(n in (1, m) for n, m in zip(value.shape[::-1], size[::-1], strict=False))


def precision(value: Tensor) -> float:
    """The relative error with which a dtype holds a number."""
    return torch.finfo(value.dtype).eps if value.dtype.is_floating_point else 0.0
