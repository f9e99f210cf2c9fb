"""Several processes: training on parts of the batch, and simulation of parts of a population. See docs/scale.md."""

from .data_parallel import ddp, fsdp, full_state, set_full_state
from .simulate import simulate

__all__ = ["ddp", "fsdp", "full_state", "set_full_state", "simulate"]
