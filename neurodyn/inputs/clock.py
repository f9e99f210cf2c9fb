"""The time, for models that depend on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.fields import State, state


class Clock(Dynamics):
    """The time t in ms, as a number in a tensor: ``t = clock()`` is that at which the step begins, and moves on by dt.

    Call it once in each step and hand t on to whatever depends on it; ``clock.read()`` gives it without moving on. As
    steps are counted in a state, the time is right in every loop: in one of your own, in `unroll`, compiled or not, and
    in windows of a long sequence. `reset_states` sets it to 0. `simulate` sets it to ``start * dt``, the time at which
    its records begin.

    t is in float64, in which an hour of steps of 0.1 ms has no rounding. A tensor without dimensions does not change
    the dtype of what it is combined with.

    Args:
        dt: as for every model.
        device: as in torch.nn.

    Example:
        >>> class Driven(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.clock, self.N = nd.Clock(), nd.LIF(3)
        ...
        ...     def forward(self, strength):
        ...         t = self.clock()
        ...         return self.N(strength * (t >= 20) * torch.cos(t / 50))
        >>> spikes = nd.unroll(Driven(), torch.full((100, 3), 5.0), compile=False)
        >>> int(spikes[:20].sum()), bool(spikes[20:40].sum() > 0)
        (0, True)
    """

    #: Whole numbers: in float32 there is none after 2**24, half an hour of steps of 0.1 ms.
    steps: State = state(default=0.0, learnable=False, shared=True, dtype=torch.int64)

    def __init__(self, *, dt: Any = None, device: Any = None):
        super().__init__((), dt=dt, device=device)

    def forward(self) -> Tensor:  # type: ignore[override]
        if not self.is_set:
            self.reset_state()
        return self._stepped(self.step)

    def step(self, steps: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return steps.double() * self.dt, steps + 1

    def read(self) -> Tensor:
        """The time at which the coming step begins."""
        if not self.is_set:
            self.reset_state()
        steps: Any = self._buffers["steps"]
        return steps.double() * self.dt

    def set_steps(self, n: int) -> None:
        """As if `n` steps had been done."""
        start: Any = self.steps_initializer
        self._buffers["steps"] = torch.full((), n, dtype=torch.int64, device=start.device)
