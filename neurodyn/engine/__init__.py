"""The time loop: `unroll` runs any module over time, compiled in chunks; README.md in this folder shows the way."""

from .errors import EagerWarning
from .unroll import Unroll, unroll

__all__ = ["EagerWarning", "Unroll", "unroll"]
