"""Which tensors operators write to, and what these held before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


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
    """The former values of tensors that a step writes to, so that a step that is only tried can be undone.

    Parameters, buffers and any other tensor are alike. Each is noted before it is written to.
    """

    def __init__(self) -> None:
        self.former: list[tuple[Tensor, Tensor]] = []

    def note(self, tensors: Sequence[Tensor]) -> None:
        """Keep what is about to be overwritten."""
        self.former += [(tensor.detach(), tensor.detach().clone()) for tensor in tensors]

    def undo(self) -> None:
        """Put all of it back, the last first."""
        with torch.no_grad():
            for tensor, value in reversed(self.former):
                if tensor.shape == value.shape:
                    tensor.copy_(value)
                else:  # it has been resized
                    tensor.set_(value)  # type: ignore[call-overload]
        self.former.clear()
