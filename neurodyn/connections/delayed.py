"""Delays of the single synapses of a connection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.fields import State, state
from ..delays.delayed import Delayed
from ..ops import event


class SynapticDelays(Delayed):
    """The delays of the synapses of one connection, of which there may be none."""

    elastic = ("delay", "raw_delay", "_before", "_late", "size")
    may_be_empty = True


class Arrivals(Dynamics):
    """What is on its way. Input: row k arrives k steps later. Output: what arrives in this step."""

    pending: State = state(default=0.0, alias="pending_initializer")

    def step(self, sent: Tensor, pending: Tensor) -> tuple[Tensor, Tensor]:
        total = pending + sent
        return total[..., 0, :], torch.cat((total[..., 1:, :], torch.zeros_like(total[..., :1, :])), -2)

    def resize(self, rows: int, n: int) -> None:
        """Hold `rows` steps; what is on its way stays so, and keeps the memory as long as it needs it."""
        pending: Any = self._buffers["pending"]
        if pending is not None and pending.shape[-2] != rows and pending.shape[-1] == n:
            used = pending.detach().flatten(0, -3).ne(0).any(0).any(-1) if pending.dim() > 2 else pending.ne(0).any(-1)
            rows = max(rows, int(used.nonzero().max()) + 1 if bool(used.any()) else 0)
            kept = pending[..., :rows, :]
            more = pending.new_zeros(*pending.shape[:-2], rows - kept.shape[-2], n)
            self._buffers["pending"] = torch.cat((kept, more), -2)
        self.size = (rows, n)


def sent(
    x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, delays: SynapticDelays, size: tuple[int, ...]
) -> Tensor:
    """What each output will get from `x` after 0, 1, 2, ... steps, in the `size` of `Arrivals`.

    Whole delays are part of the indices: synapse k reaches ``indices[k] % n`` after ``indices[k] // n`` steps.
    """
    rows, n = size
    if delays.whole:
        return event.matmul(x, weight, indptr, indices, rows * n).unflatten(-1, size)
    if delays.interpolation == "gaussian":
        return _spread(x, weight, indptr, indices, delays, size)
    before, late = delays.parts()
    assert late is not None
    late = late.to(weight.dtype).expand(indices.shape)
    place = before * n + indices
    total = event.matmul(x, weight * (1 - late), indptr, place, rows * n)
    total = total + event.matmul(x, weight * late, indptr, place + n, rows * n)
    return total.unflatten(-1, size)


def _spread(
    x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, delays: SynapticDelays, size: tuple[int, ...]
) -> Tensor:
    """The same for Gaussian kernels: each synapse is one for each step, with weights that add up to its own."""
    rows, n = size
    kernel = delays.kernel().to(weight.dtype)
    kernel = (kernel.unsqueeze(-1) if kernel.dim() == 1 else kernel).expand(-1, indices.shape[0])
    lag = torch.arange(1, delays.length + 1, dtype=indices.dtype, device=indices.device)
    place = (indices.unsqueeze(1) + lag * n).flatten()
    spread = (weight * kernel).t().flatten()
    return event.matmul(x, spread, indptr * delays.length, place, rows * n).unflatten(-1, size)
