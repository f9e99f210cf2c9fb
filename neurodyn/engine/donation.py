"""Whose memory it is: where nobody else reads a tensor between two layers, its gradient may be written in its place."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._C import _autograd  # type: ignore[attr-defined]


def are_unseen() -> bool:
    """Whether no hook for saved tensors sees what is saved now."""
    return _autograd._top_saved_tensors_default_hooks(False) is None


def for_the_last_time() -> bool:
    """In a backward pass: whether there can be no other one for the same graph, nor for this pass itself."""
    return not torch.is_grad_enabled() and not _autograd._get_current_graph_task_keep_graph()


def apart(tensors: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """The tensors, each in memory that belongs to none of the others, nor to one before it."""
    strided = [other for other in others if other.layout is torch.strided]  # not so is a packed weight
    places, found = {other.untyped_storage().data_ptr() for other in strided}, []
    for tensor in tensors:
        place = tensor.untyped_storage().data_ptr()
        found.append(tensor.clone() if place in places else tensor)
        places.add(place)
    return found
