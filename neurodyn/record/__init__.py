"""What `simulate` and ``unroll(record=)`` return: traces, spikes, and both by name."""

from .events import Events
from .recording import Recording
from .trace import Trace

__all__ = ["Events", "Recording", "Trace"]
