"""Connections: from the outputs of one population to the inputs of another."""

from ..ops import event  # noqa: F401, of simulate.py
from ..ops.event import PlainTorchWarning
from .base import Connection
from .distance import DistanceProb, OfDistance
from .dropout import FixedDropout
from .gap_junction import GapJunction
from .lora import LoRA
from .masked import MaskedLinear
from .random import FixedNum, FixedProb, FixedTotal
from .scaled import ScaledWSLinear
from .scaled_conv import ScaledWSConv1d, ScaledWSConv2d, ScaledWSConv3d
from .signed import SignedLinear
from .simple import AllToAll, OneToOne
from .sparse import Sparse

__all__ = [
    "AllToAll",
    "Connection",
    "DistanceProb",
    "FixedDropout",
    "FixedNum",
    "FixedProb",
    "FixedTotal",
    "GapJunction",
    "LoRA",
    "MaskedLinear",
    "OfDistance",
    "OneToOne",
    "PlainTorchWarning",
    "ScaledWSConv1d",
    "ScaledWSConv2d",
    "ScaledWSConv3d",
    "ScaledWSLinear",
    "SignedLinear",
    "Sparse",
]
