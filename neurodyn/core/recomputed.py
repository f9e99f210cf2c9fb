"""Whether a step is computed again, from a state that the first time has changed: torch.utils.checkpoint does that."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from torch import Tensor

from ..torch_private import backward_pass


class Written:
    """The states that a call of a module wrote, and the backward pass that it was part of, if any."""

    def __init__(self, states: Sequence[Tensor], task: int | None = None):
        self.states = [weakref.ref(value) for value in states]
        self.task = backward_pass() if task is None else task

    def are(self, states: Sequence[Tensor]) -> bool:
        """Whether `states` are these."""
        return all(ref() is value for ref, value in zip(self.states, states, strict=True))

    def too_old(self, states: Sequence[Tensor]) -> bool:
        """Whether `states` are these, were written before the backward pass that runs now, and so are the wrong ones.

        In a backward pass only what is computed again runs forward; its first call read the states before these.
        """
        task = backward_pass()
        return task not in (-1, self.task) and self.are(states)
