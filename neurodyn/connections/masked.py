"""Linear connection with a fixed mask."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from .base import Connection, make_factor
from .keywords import DenseKeywords


class MaskedLinear(Connection):
    r"""Linear map with a fixed mask: $y = x\,(W \odot M)^T + b$. Weights under a 0 get no gradient.

    Input: ``(*batch, in_features)``. Output: ``(*batch, out_features)``, in the unit of the weight.

    Args:
        in_features, out_features: sizes.
        mask: array or tensor that broadcasts to ``(out_features, in_features)``, often of 0 and 1.
        values: ``weight``, ``bias``, ``device`` and ``dtype``, see `Connection`.

    Example:
        >>> local = nd.MaskedLinear(5, 5, torch.eye(5), weight=2 * u.nS)
        >>> local(torch.arange(5.0)).tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0]
    """

    factors = ("mask",)
    mask: Tensor

    def __init__(self, in_features: int, out_features: int, mask: Any, **values: Unpack[DenseKeywords]):
        super().__init__(in_features, out_features, **values)
        label = f"{self._label()}: mask"
        self.register_buffer("mask", make_factor(mask, self.weight_shape(), label, self.weight))

    def matrix(self) -> Tensor:
        return self.weight * self.mask
