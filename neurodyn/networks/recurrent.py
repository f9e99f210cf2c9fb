"""A population that feeds back on itself."""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import State, state


class Recurrent(Dynamics):
    r"""A cell that also gets its own output of the previous step: $y_t = cell(x_t + feedback(y_{t-1}))$.

    Input: ``(*batch, *size)`` of the cell. Output: that of the cell; $y_{-1} = 0$.

    Args:
        cell: a neuron, or any `Dynamics` whose output has its own size.
        feedback: from outputs to inputs of the cell: an ``nn.Linear``, a `Projection`, ...

    Example:
        >>> layer = nd.Recurrent(nd.LIF(8), torch.nn.Linear(8, 8, bias=False))
        >>> nd.unroll(layer, torch.rand(20, 4, 8)).shape
        torch.Size([20, 4, 8])
    """

    y: State = state(default=0.0, alias="y_initializer")

    def __init__(self, cell: Dynamics, feedback: nn.Module):
        first = next(itertools.chain(cell.parameters(), cell.buffers()))
        super().__init__(cell.size, dt=cell.dt * u.ms, dtype=first.dtype)
        self.to(first.device)
        self.cell, self.feedback = cell, feedback

    @property
    def emits_spikes(self) -> bool:  # type: ignore[override]
        """Whether the cell does."""
        return self.cell.emits_spikes

    def step(self, x: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        y = self.cell(self.feedback(y) + x)
        return y, y
