"""`unroll`: how a module is cut into layers that run over time, one after the other; see ../engine/README.md."""

from ..tools.errors import EagerWarning
from .unroll import Unroll, unroll

__all__ = ["EagerWarning", "Unroll", "unroll"]
