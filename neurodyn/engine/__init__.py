"""The time loop: `unroll` runs any module over time, compiled in chunks; see docs/engine.md."""

from .unroll import EagerWarning, Unroll, unroll

__all__ = ["EagerWarning", "Unroll", "unroll"]
