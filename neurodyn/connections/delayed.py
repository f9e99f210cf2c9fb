"""Delays of the single synapses of a connection."""

from __future__ import annotations

import torch
from torch import Tensor

from ..delay import Delayed
from ..dynamics import Dynamics
from ..fields import state
from ..ops import event


class SynapticDelays(Delayed):
    """The delays of the synapses of one connection."""

    elastic = ("delay", "raw_delay", "_steps", "size")


class Arrivals(Dynamics):
    """What is on its way. Input: row k arrives k steps later. Output: what arrives in this step."""

    pending: Tensor = state(0.0)

    def step(self, sent: Tensor, pending: Tensor) -> tuple[Tensor, Tensor]:
        total = pending + sent
        return total[..., 0, :], torch.cat((total[..., 1:, :], torch.zeros_like(total[..., :1, :])), -2)


def sent(
    x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, delays: SynapticDelays, size: tuple[int, ...]
) -> Tensor:
    """What each output will get from `x` after 0, 1, 2, ... steps, in the `size` of `Arrivals`.

    Whole delays are part of the indices: synapse k reaches ``indices[k] % n`` after ``indices[k] // n`` steps.
    """
    rows, n = size
    if delays.whole:
        return event.matmul(x, weight, indptr, indices, rows * n).unflatten(-1, size)
    steps = delays.steps.expand(indices.shape)
    before = steps.detach().floor()
    late = steps - before
    place = before.to(torch.int32) * n + indices
    total = event.matmul(x, weight * (1 - late), indptr, place, rows * n)
    total = total + event.matmul(x, weight * late, indptr, place + n, rows * n)
    return total.unflatten(-1, size)
