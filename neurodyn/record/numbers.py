"""Which neurons of a population were recorded, by their numbers in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def numbers_of(index: Any, kept: int, size: int | None) -> Tensor | None:
    """The numbers of the neurons that an index into the last dimension keeps.

    Args:
        index: None for all; a whole number, a slice, or a tensor of whole numbers.
        kept: how many it keeps.
        size: of the population, if known; otherwise numbers below 0 stay as they are and count from its end.
    """
    if index is None:
        return None
    if isinstance(index, slice):
        step = 1 if index.step is None else index.step
        first = (0 if step > 0 else -1) if index.start is None else index.start
        found = first + step * torch.arange(kept)
    else:
        found = torch.as_tensor(index).detach().cpu().long()
    if found.dim() > 1:  # of neurons in an arrangement of one's own
        return None
    return found if size is None else torch.where(found < 0, found + size, found)


def numbers_of_sample(numbers: Tensor | None, shape: tuple[int, ...], index: tuple[int, ...]) -> Tensor | None:
    """The same for one sample of a record of this shape."""
    if numbers is None or not numbers.dim() or len(index) < len(shape):
        return numbers
    return numbers[index[-1]]
