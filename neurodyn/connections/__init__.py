"""Connections: from the outputs of one population to the inputs of another."""

from .base import Connection
from .dropout import FixedDropout
from .lora import LoRA
from .masked import MaskedLinear
from .scaled import ScaledWSLinear
from .signed import SignedLinear
from .simple import AllToAll, OneToOne

__all__ = [
    "AllToAll",
    "Connection",
    "FixedDropout",
    "LoRA",
    "MaskedLinear",
    "OneToOne",
    "ScaledWSLinear",
    "SignedLinear",
]
