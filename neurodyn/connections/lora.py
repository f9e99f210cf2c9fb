"""Low-rank adaptation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.loading import take_shape
from ..core.recipe import Rebuildable
from .base import as_float, evaluated, make_weight, unit_of


class LoRA(Rebuildable):
    r"""A linear map of low rank, alone or on top of another: $y = x\,A^T B^T + base(x)$.

    Input: ``(*batch, in_features)``. Output: ``(*batch, out_features)``.

    Args:
        in_features, rank, out_features: sizes; A is ``(rank, in_features)`` and B ``(out_features, rank)``.
        base: a connection from in_features to out_features to which the map is added; freeze it with
            ``base.requires_grad_(False)`` to train A and B alone.
        A: plain (normal with standard deviation $1/\sqrt{in}$ by default).
        B: plain or with a unit, that of the output of `base` (by default zeros with a `base`, so that training starts
            from the base; else normal with standard deviation $1/\sqrt{rank}$).
        device, dtype: as in torch.nn.

    Example:
        >>> base = torch.nn.Linear(100, 50).requires_grad_(False)
        >>> adapted, x = nd.LoRA(100, 4, 50, base), torch.randn(100)
        >>> torch.equal(adapted(x), base(x)), sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        (True, 600)

    Source: Hu et al. (2022), LoRA: low-rank adaptation of large language models, ICLR.
    """

    def __init__(
        self,
        in_features: int,
        rank: int,
        out_features: int,
        base: nn.Module | None = None,
        *,
        A: Any = None,
        B: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        dtype = dtype or torch.get_default_dtype()
        self.in_features, self.out_features = in_features, out_features
        label = f"LoRA({in_features}, {rank}, {out_features})"
        shape_A, shape_B = (rank, in_features), (out_features, rank)
        A = torch.randn(shape_A) / math.sqrt(in_features) if A is None else evaluated(A, shape_A)
        if B is None:
            B = torch.randn(shape_B) / math.sqrt(rank) if base is None else torch.zeros(shape_B)
        B = evaluated(B, shape_B)
        self.A = make_weight(A, unit_of(1.0), shape_A, f"{label}: A", device, dtype)
        self.B = make_weight(B, unit_of(B), shape_B, f"{label}: B", device, dtype)
        self.base = base

    def _fit(self, A: Tensor, B: Tensor) -> bool:
        """Whether they are of one rank and of these sizes."""
        rank = A.shape[0] if A.dim() else 0
        return tuple(A.shape) == (rank, self.in_features) and tuple(B.shape) == (self.out_features, rank)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        A, B = (state_dict.get(f"{prefix}{name}") for name in ("A", "B"))
        if isinstance(A, Tensor) and isinstance(B, Tensor) and self._fit(A, B):  # the rank is that of the file
            take_shape(self, "A", A)
            take_shape(self, "B", B)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        if not self._fit(self.A, self.B):
            raise ValueError(
                f"LoRA({self.in_features}, rank, {self.out_features}): A has shape {tuple(self.A.shape)} and B "
                f"{tuple(self.B.shape)}, wanted (rank, {self.in_features}) and ({self.out_features}, rank)"
            )
        low = F.linear(F.linear(as_float(x, self.A), self.A), self.B)
        return low if self.base is None else low + self.base(x)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.A.shape[1]}, {self.A.shape[0]}, {self.B.shape[0]}"
