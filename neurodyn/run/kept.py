"""What is kept of each block of a simulation, and the records that become of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..core.states import get_states
from ..ops import event
from ..record import Events, Trace
from ..record.numbers import numbers_of
from .population import PopulationMean
from .probe import Probe, unit_of


def is_events(name: str) -> bool:
    """Whether this name is recorded as a list of events."""
    return name.endswith("spikes")


def events_of(out: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Steps and positions of the non-zero elements."""
    position, size = event.nonzero(out), out[0].numel()
    return first + position.div(size, rounding_mode="floor"), position.remainder(size)


class Kept:
    """The record of one name, as it grows.

    Args:
        probe: says what is recorded.
        name: of the record.
        dt: time step in ms.
        every: a trace keeps one value in so many steps.
    """

    def __init__(self, probe: Probe, name: str, dt: float, every: int):
        self.name, self.dt, self.every = name, dt, every
        what, state = probe.wanted[name], get_states(probe.net).get(name)
        self.index, self.size = probe.index(name), state.shape[-1] if state is not None and state.dim() else None
        self.mean = what if isinstance(what, PopulationMean) else None
        self.events = self.mean is None and is_events(name)
        self.unit, self.scale = unit_of(probe.net, name if self.mean is None else self.mean.of), 1.0
        if self.mean is not None and self.mean.of_spikes:
            self.unit, self.scale = u.registry.Unit("Hz"), 1e3 / dt
        self.parts: list[Any] = []
        self.rest: Tensor | None = None  # the rows of a bin that is not yet full
        self.shape: tuple[int, ...] = ()

    def add(self, out: Tensor, first: int) -> None:
        """The output of the steps from `first` on."""
        self.shape = tuple(out.shape[1:])
        if self.events:
            self.parts.append(events_of(out, first))
        elif self.mean is None:
            self.parts.append(out[-(first + 1) % self.every :: self.every].clone())
        else:
            rows = out if self.rest is None else torch.cat((self.rest, out))
            n = len(rows) // self.every
            bins = rows[: n * self.every].unflatten(0, (n, self.every)) if n else rows[:0].unsqueeze(1)
            self.parts.append((bins.double().mean(1) * self.scale).to(out.dtype))
            self.rest = rows[n * self.every :].clone()

    def record(self, start: int, stop: int) -> Trace | Events:
        """All of it, from the steps between `start` and `stop`."""
        numbers = numbers_of(self.index, self.shape[-1] if self.shape else 1, self.size)
        if self.events:
            steps, neurons = (torch.cat(column) for column in zip(*self.parts, strict=True))
            return Events(steps, neurons, self.shape, start, stop, self.dt, self.name, numbers)
        values = torch.cat(self.parts)
        return Trace(values, self.unit, start // self.every, self.dt * self.every, self.name, numbers)


def check_start(start: int, kept: Sequence[Kept]) -> None:
    """Refuse a start inside a bin, or inside a ``trace_dt``."""
    for one in kept:
        if not one.events and start % one.every:
            what = "a trace_dt" if one.mean is None else f"a bin of {one.name!r}"
            raise ValueError(
                f"simulate: start={start} is inside {what} of {one.every} steps; wanted a multiple of {one.every}"
            )
