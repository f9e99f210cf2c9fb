"""Which tensors operators write to, and what these held before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def memory_of(tensor: Tensor) -> int:
    """The address of the memory of a tensor and of its views; 0 without any."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError, ValueError):  # such as of a sparse or a lazy one
        return 0


def written_by(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that an operator will write to in place, or as its ``out=``."""
    schema, found = getattr(operator, "_schema", None), []
    if schema is None or not schema.is_mutable:
        return []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += value if isinstance(value, (list, tuple)) else [value]
    return [value for value in found if isinstance(value, Tensor)]


class Overwritten:
    """The former values of tensors that a step may write to, so that a step that is only tried can be undone.

    Parameters, buffers and any other tensor are alike. Each is noted before it is written to.
    """

    def __init__(self) -> None:
        self.former: list[tuple[Tensor, Tensor, bool]] = []

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Keep what may be overwritten."""
        own = torch.is_inference_mode_enabled()
        fixed = [t for t in tensors if own or not t.is_inference()]  # the others cannot be written to
        self.former += [(tensor, tensor.detach().clone(), tensor.grad_fn is None) for tensor in fixed]

    def undo(self) -> None:
        """Put back what has changed, the last first."""
        with torch.no_grad():
            for tensor, value, was_leaf in reversed(self.former):
                if tensor.shape != value.shape:  # it has been resized
                    tensor.set_(value)  # type: ignore[call-overload]
                elif not _equal(tensor, value):  # by .data, as a graph of before may have saved it
                    (tensor.data if tensor.layout is torch.strided else tensor).copy_(value)
                if was_leaf and tensor.grad_fn is not None:
                    with contextlib.suppress(RuntimeError):  # of a view
                        tensor.detach_()
        self.former.clear()


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same values, NaN being one; False where torch cannot tell."""
    try:
        return torch.equal(a, b) or (bool(a.isnan().any()) and torch.equal(a.nan_to_num(), b.nan_to_num()))
    except (RuntimeError, NotImplementedError):  # such as sparse ones
        return False
