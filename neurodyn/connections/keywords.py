"""For type checkers: the further keywords of connections, which their constructors pass on as ``**values``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import torch

from ..delays.delayed import Interpolation


class _Anywhere(TypedDict, total=False):
    device: Any
    dtype: torch.dtype | None


class FactoryKeywords(_Anywhere, total=False):
    """Those of a dense connection that names its weight itself."""

    bias: Any


class DenseKeywords(FactoryKeywords, total=False):
    """Those of a dense connection."""

    weight: Any


class ScaledKeywords(_Anywhere, total=False):
    """Those of a dense connection that names its bias itself."""

    weight: Any


class PlacedKeywords(FactoryKeywords, total=False):
    """Those of a sparse connection that names its delay itself."""

    interpolation: Interpolation
    max_delay: Any
    sigma: Any
    dt: Any
    learn: str | Iterable[str]


class SparseKeywords(PlacedKeywords, total=False):
    """Those of a sparse connection."""

    delay: Any
