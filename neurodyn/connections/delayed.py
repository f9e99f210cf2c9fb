"""Delays of the single synapses of a connection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.fields import State, state
from ..delays.delayed import Delayed
from ..ops import event, ring


class SynapticDelays(Delayed):
    """The delays of the synapses of one connection, of which there may be none."""

    elastic = ("delay", "raw_delay", "_before", "_late", "size")
    may_be_empty = True


class Arrivals(Dynamics):
    """What is on its way to n outputs, in a ring of rows.

    Row (head + k) % rows of `pending` arrives k steps later; the row before `head` has arrived and counts as empty.
    """

    pending: State = state(default=0.0, alias="pending_initializer")
    head: State = state(default=0.0, learnable=False, shape=(), shared=True, dtype=torch.int64)

    may_have_batch = False

    def forward(  # type: ignore[override]
        self, x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, delays: SynapticDelays
    ) -> Tensor:
        if not self.is_set:
            self.reset_state(*x.shape[:-1])
        return self._stepped(self.arrive, x, weight, indptr, indices, delays)

    def arrive(
        self,
        x: Tensor,
        weight: Tensor,
        indptr: Tensor,
        indices: Tensor,
        delays: SynapticDelays,
        pending: Tensor,
        head: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What arrives in the step in which the inputs are x, and the new states."""
        self._check_match("pending", pending, x, tuple(x.shape[:-1]))
        rows = self.size[0]
        if delays.whole and ring.applies(pending, x, weight):
            pending = ring.deliver(pending, head, x, weight, indptr, indices)
            arrived = ring.arrived(pending, head)
            return arrived, pending, (head + 1) % rows  # after the others: Inductor computes it once, in memory
        row = torch.arange(rows, device=head.device)
        kept = torch.where((row == (head - 1) % rows).unsqueeze(-1), 0.0, pending)
        coming = sent(x, weight, indptr, indices, delays, self.size)  # type: ignore[arg-type]
        pending = kept + coming.index_select(-2, (row - head) % rows)
        return _row(pending, head), pending, (head + 1) % rows

    def read(self) -> Tensor:
        """What arrives in the coming step, if nothing is sent without delay."""
        pending, head = (self._buffers[name] for name in self.states)
        assert pending is not None
        assert head is not None
        return ring.arrived(pending, head) if ring.applies(pending) else _row(pending, head)

    def resize(self, rows: int, n: int) -> None:
        """Hold `rows` steps; what is on its way stays so, and keeps the memory as long as it needs it."""
        pending: Any = self._buffers["pending"]
        if pending is not None and pending.shape[-2] != rows and pending.shape[-1] == n:
            pending = pending.roll(-int(self._buffers["head"]), -2)  # type: ignore[arg-type]
            pending = torch.cat((pending[..., :-1, :], torch.zeros_like(pending[..., :1, :])), -2)
            used = pending.detach().flatten(0, -3).ne(0).any(0).any(-1) if pending.dim() > 2 else pending.ne(0).any(-1)
            rows = max(rows, int(used.nonzero().max()) + 2 if bool(used.any()) else 0)  # the last one counts as empty
            kept = pending[..., :rows, :]
            more = pending.new_zeros(*pending.shape[:-2], rows - kept.shape[-2], n)
            self._buffers["pending"] = torch.cat((kept, more), -2)
            self._set_initial("head", ())
        self.size = (rows, n)


def _row(pending: Tensor, head: Tensor) -> Tensor:
    return pending.index_select(-2, head.view(1)).squeeze(-2)


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
