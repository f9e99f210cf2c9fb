"""The time loop: `unroll` runs any module over time, compiled in chunks; see docs/engine.md."""

from .errors import EagerWarning
from .unroll import Unroll, unroll

__all__ = ["EagerWarning", "Unroll", "unroll"]
