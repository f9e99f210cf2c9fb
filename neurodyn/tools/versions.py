"""How often a tensor has been written to."""

from __future__ import annotations

from torch import Tensor


def version_of(tensor: Tensor) -> int:
    """Another number after each change in place, but for those through ``.data``; 0 for an inference tensor."""
    return 0 if tensor.is_inference() else tensor._version
