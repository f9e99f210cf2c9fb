"""One-to-one and all-to-all connections."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from .. import units
from ..core.fields import is_initialiser
from .base import Connection, as_float
from .keywords import FactoryKeywords


class OneToOne(Connection):
    r"""Each source drives the target of the same index: $y = w \odot x + b$.

    Input and output: ``(*batch, size)``, the output in the unit of the weight.

    Args:
        size: number of sources and of targets.
        weight: ``(size,)``, or a scalar that all share (normal with standard deviation 1 by default).
        include_self: True, as for other connections; False would leave no connection.
        values: ``bias``, ``device`` and ``dtype``, see `Connection`.

    Raises:
        ValueError: ``include_self=False``.

    Example:
        >>> nd.OneToOne(3, weight=[1.0, 2.0, 3.0])(torch.ones(3)).tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, size: int, *, weight: Any = None, include_self: bool = True, **values: Unpack[FactoryKeywords]):
        if not include_self:
            raise ValueError(
                f"OneToOne({size}): include_self=False leaves no connection, as source i drives target i only. Between "
                "two populations i and i are different neurons: leave include_self out. Inside one population, "
                f"nd.AllToAll({size}, {size}, include_self=False) drives all others, nd.FixedNum({size}, {size}, 1, "
                "weight=..., include_self=False) one other"
            )
        super().__init__(size, size, weight=torch.randn if weight is None else weight, **values)

    def weight_shape(self, weight: Any = None) -> tuple[int, ...]:
        return () if is_scalar(weight) else (self.out_features,)

    def fits(self, name: str, value: Tensor) -> bool:
        return tuple(value.shape) in (() if name == "weight" else (self.out_features,), (self.out_features,))

    def matrix(self) -> Tensor:
        return torch.diag(self.weight.expand(self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        self.check_shapes(x)
        y = as_float(x, self.weight) * self.weight
        return y if self.bias is None else y + self.bias


class AllToAll(Connection):
    r"""Every source drives every target: $y = x\,W^T + b$; with a scalar weight w, $y_j = w \sum_i x_i + b_j$.

    Input: ``(*batch, in_features)``. Output: ``(*batch, out_features)``, in the unit of the weight.

    Args:
        in_features, out_features: sizes.
        weight: ``(out_features, in_features)``, or a scalar that all connections share, which needs no matrix.
        include_self: False leaves out the connections from i to i, for sizes that are equal.
        values: ``bias``, ``device`` and ``dtype``, see `Connection`.

    Example:
        >>> nd.AllToAll(3, 3, weight=0.5 * u.nS, include_self=False)(torch.tensor([1.0, 0.0, 0.0])).tolist()
        [0.0, 0.5, 0.5]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        weight: Any = None,
        include_self: bool = True,
        **values: Unpack[FactoryKeywords],
    ):
        super().__init__(in_features, out_features, weight=weight, **values)
        if not include_self and in_features != out_features:
            raise ValueError(f"{self._label()}: include_self=False needs as many sources as targets")
        self.include_self = include_self

    def weight_shape(self, weight: Any = None) -> tuple[int, ...]:
        return () if is_scalar(weight) else (self.out_features, self.in_features)

    def fits(self, name: str, value: Tensor) -> bool:
        return (name == "weight" and not value.dim()) or super().fits(name, value)

    def matrix(self) -> Tensor:
        matrix = self.weight.expand(self.out_features, self.in_features)
        return matrix if self.include_self else matrix - torch.diag(matrix.diagonal())

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim():
            return super().forward(x)
        self.check_shapes(x)
        x = as_float(x, self.weight)
        total = x.sum(-1, keepdim=True)
        y = self.weight * (total.expand(*x.shape[:-1], self.out_features) if self.include_self else total - x)
        return y if self.bias is None else y + self.bias


def is_scalar(weight: Any) -> bool:
    """Whether `weight` is one number, with or without a unit."""
    if weight is None or is_initialiser(weight):
        return False
    value = getattr(weight, "magnitude", weight)
    return not getattr(value, "ndim", isinstance(value, (list, tuple))) and not isinstance(value, units.registry.Unit)
