"""The way of spikes to synapses with delays of their own, so that a rule sees them when they arrive."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.fields import State, state


class Axons(Dynamics):
    """Spikes of the last steps, and which of them arrive now: one value for each branch of an axon.

    A branch is a run of synapses in a row of the connection with the same delay, of which there is one for each input
    if delays are the same, and up to one for each synapse otherwise. A step costs the spikes of all steps of the
    longest delay, and one value for each branch.

    Input: ``(*batch, *pre)``. Output: ``(*batch, branches)``.
    """

    may_have_batch = False
    may_be_empty = True  # without synapses there are no branches

    past: State = state(default=0.0, alias="past_initializer", shape="rows")
    connected: str  # the connection
    inputs: tuple[int, ...]
    place: Tensor  # of each branch in the rows of the past
    at_once: bool  # whether a branch has a delay shorter than dt

    def __init__(self, connection: Any, **values: Any):
        vars(self).update(connected=connection._label(), inputs=connection.in_size)
        super().__init__((len(connection.indices),), **values)
        self.register_buffer("place", None, persistent=False)

    def follow(self, connection: Any) -> tuple[Tensor, Tensor]:
        """The branches of a connection: row starts for the synapses of each, and the branch of each synapse."""
        n = math.prod(self.inputs)
        pre, steps = connection.pre_index.long(), connection.indices.long() // math.prod(connection.out_size)
        place = steps * n + pre
        first = torch.ones_like(place, dtype=torch.bool)
        first[1:] = place[1:] != place[:-1]
        starts = first.nonzero()[:, 0]
        rows = (int(steps.max()) + 1 if len(steps) else 1, n)
        if getattr(self, "rows", rows) != rows or (self.place is not None and len(self.place) != len(starts)):
            self._buffers["past"] = None  # of other delays
        self.rows, self.size, self.place = rows, (len(starts),), place[starts]
        self.at_once = bool(len(steps)) and int(steps.min()) == 0  # here, as `coming` is traced
        ends = torch.cat((starts, starts.new_full((1,), len(place))))
        return ends.to(torch.int32), (first.cumsum(0) - 1).to(torch.int32)

    @property
    def input_size(self) -> tuple[int, ...]:
        return self.inputs

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(-len(self.inputs)) if len(self.inputs) > 1 else x
        past = torch.cat((x.unsqueeze(-2), past[..., :-1, :]), -2)
        return past.flatten(-2).index_select(-1, self.place), past

    def coming(self) -> Tensor:
        """What arrives in the coming step, before its spikes are known.

        Raises:
            ValueError: a delay shorter than dt.
        """
        n = self.rows[1]
        if self.at_once:
            raise ValueError(f"{self.connected}: some delays are shorter than dt, so its output needs the next input")
        return self.past.flatten(-2).index_select(-1, self.place - n)

    def _label(self) -> str:
        return self.connected
