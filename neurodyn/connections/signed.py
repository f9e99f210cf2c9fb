"""Linear connection whose weights keep their sign."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from .base import Connection, make_factor
from .keywords import DenseKeywords


class SignedLinear(Connection):
    r"""Linear map with weights of fixed sign: $y = x\,(|W| \odot S)^T + b$.

    With one sign for each source it obeys Dale's law while it is trained. A weight of exactly 0 has no slope.

    Input: ``(*batch, in_features)``. Output: ``(*batch, out_features)``, in the unit of the weight.

    Args:
        in_features, out_features: sizes.
        sign: factors, usually 1 and -1, that broadcast to ``(out_features, in_features)``: a vector
            ``(in_features,)`` has one sign for each source. All positive by default.
        values: ``weight``, ``bias``, ``device`` and ``dtype``, see `Connection`.

    Example:
        >>> sign = torch.tensor([1.0, 1.0, -1.0])  # two excitatory sources, one inhibitory
        >>> nd.SignedLinear(3, 1, sign, weight=-2.0)(torch.ones(3)).item()
        2.0
    """

    factors = ("sign",)
    sign: Tensor

    def __init__(self, in_features: int, out_features: int, sign: Any = 1.0, **values: Unpack[DenseKeywords]):
        super().__init__(in_features, out_features, **values)
        label = f"{self._label()}: sign"
        self.register_buffer("sign", make_factor(sign, self.weight_shape(), label, self.weight))

    def matrix(self) -> Tensor:
        return self.weight.abs() * self.sign
