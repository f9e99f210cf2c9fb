"""What a simulation recorded: traces, and spikes as lists of events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pint
import torch
from torch import Tensor

from . import units as u


@dataclass(frozen=True)
class Trace:
    """A value at every step.

    Attributes:
        values: ``(steps, *batch, *size)``, in `unit`.
        unit: a pint unit.
        start: the first step; step i begins at the time ``i * dt``, and `values` holds what was true at its end.
        dt: time step in ms.

    Example:
        >>> recording = nd.simulate(nd.LIF(2), 4 * u.ms, torch.tensor([0.5, 0.9]), ["V"], compile=False)
        >>> recording["V"].quantity[-1]
        <Quantity(tensor([0.2753, 0.4956]), 'millivolt')>
        >>> recording["V"].times.to("s").magnitude[-1].item()
        0.003
    """

    values: Tensor
    unit: pint.Unit
    start: int
    dt: float

    @property
    def times(self) -> u.Quantity:
        """When each step began."""
        return u.quantity((self.start + torch.arange(len(self.values), dtype=torch.float64)) * self.dt, "ms")

    @property
    def quantity(self) -> u.Quantity:
        """The values with their unit."""
        return u.quantity(self.values, self.unit)


@dataclass(frozen=True)
class Events:
    """Spikes: when, and which neuron.

    Attributes:
        steps: the step of each spike, in order.
        neurons: the number of the neuron that spiked, counted through `shape`.
        shape: ``(*batch, *size)``.
        start, stop: the steps that were recorded.
        dt: time step in ms.

    Example:
        >>> spikes = nd.simulate(nd.LIF(2), 60 * u.ms, torch.tensor([0.5, 1.2]), ["spikes"], compile=False)["spikes"]
        >>> spikes.times
        <Quantity(tensor([ 8., 17., 26., 35., 44., 53.], dtype=torch.float64), 'millisecond')>
        >>> spikes.counts
        tensor([0, 6])
    """

    steps: Tensor
    neurons: Tensor
    shape: tuple[int, ...]
    start: int
    stop: int
    dt: float

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def times(self) -> u.Quantity:
        """When the step of each spike began."""
        return u.quantity(self.steps.double() * self.dt, "ms")

    @property
    def index(self) -> tuple[Tensor, ...]:
        """The neuron of each spike by its place in every dimension of `shape`."""
        return torch.unravel_index(self.neurons, self.shape)

    @property
    def counts(self) -> Tensor:
        """Number of spikes of each neuron, ``(*batch, *size)``."""
        return torch.bincount(self.neurons, minlength=math.prod(self.shape)).view(self.shape)

    @property
    def rates(self) -> u.Quantity:
        """Mean rate of each neuron."""
        return u.quantity(self.counts / ((self.stop - self.start) * self.dt * 1e-3), "Hz")


@dataclass(frozen=True)
class Recording(Mapping[str, Trace | Events]):
    """The result of `neurodyn.simulate`: records by name, and where the simulation stopped.

    Attributes:
        records: `Trace` or `Events` by name.
        states: the final states of the network, as `get_states` gives them.
        step: the number of steps done, from the very first; with `states` all that is needed to go on.

    Example:
        >>> net, I = nd.LIF(3), torch.tensor([1.1, 1.2, 1.3])
        >>> first = nd.simulate(net, 50 * u.ms, I, ["spikes"], compile=False)
        >>> rest = nd.simulate(net, 50 * u.ms, I, ["spikes"], states=first.states, start=first.step, compile=False)
        >>> rest.step, len(first["spikes"]) + len(rest["spikes"])
        (100, 31)
    """

    records: dict[str, Trace | Events]
    states: dict[str, Tensor] = field(repr=False)
    step: int = 0

    def __getitem__(self, name: str) -> Trace | Events:
        return self.records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
