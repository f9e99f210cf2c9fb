"""Spikes as a list of events."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt, get_default_dt
from . import convert
from .numbers import numbers_of_sample


@dataclass(frozen=True, repr=False, eq=False)
class Events:
    """Recorded spikes: the step and the neuron of each.

    Attributes:
        steps: the step of each spike, in order.
        neurons: the neuron that spiked, counted through `shape`.
        shape: ``(*batch, *size)`` of what was recorded.
        start, stop: the steps that were recorded.
        dt: time step in ms.
        name: what was recorded, such as "spikes".
        numbers: where some neurons of a population were recorded, which: one number for each place in the last
            dimension of `shape`, or a single one where that dimension was taken away; None for all. See `senders`.

    Example:
        >>> lif, I = nd.LIF(2, R=1 * u.Gohm), torch.tensor([0.5, 1.2])
        >>> spikes = nd.simulate(lif, 60 * u.ms, I, ["spikes"], compile=False)["spikes"]
        >>> spikes
        <Events spikes: 60 x 1 ms from 0 ms, (2,), 6 spikes, 50 Hz>
        >>> print(spikes.times)
        tensor([ 8., 17., 26., 35., 44., 53.], dtype=torch.float64) millisecond
        >>> spikes.counts
        tensor([0, 6])
        >>> spikes.to_pandas().head(2)
           time (ms)  neuron
        0        8.0       1
        1       17.0       1
    """

    steps: Tensor
    neurons: Tensor
    shape: tuple[int, ...]
    start: int
    stop: int
    dt: float
    name: str = ""
    numbers: Tensor | None = None

    @classmethod
    def of(cls, spikes: Tensor | Events, dt: Any = None) -> Events:
        """The events in a tensor ``(T, *batch, *size)``, one for each element that is not zero; events as they are.

        Args:
            spikes: the tensor.
            dt: its time step, a quantity; `get_default_dt()` if not given.
        """
        if isinstance(spikes, Events):
            if dt is not None:
                raise TypeError("Events have a time step; leave out dt=")
            return spikes
        if not isinstance(spikes, Tensor) or not spikes.dim():
            hint = '; give one of its records, such as recording["spikes"]' if hasattr(spikes, "records") else ""
            raise TypeError(f"spikes must be Events or a tensor (T, *batch, *size), got {type(spikes).__name__}{hint}")
        step = as_dt(get_default_dt() if dt is None else dt, "dt")
        flat = spikes.detach().reshape(len(spikes), -1)
        steps, neurons = flat.nonzero(as_tuple=True)
        return cls(steps, neurons, tuple(spikes.shape[1:]), 0, len(spikes), step)

    if not TYPE_CHECKING:  # which would take every name for one

        def __getattr__(self, name: str) -> Any:
            instead = {"t": "times", "i": "senders", "count": "counts", "rate": "rates"}.get(name)
            hint = f"; write .{instead}" if instead else ""
            raise AttributeError(f"Events have no {name}{hint}", name=name, obj=self)

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
    def senders(self) -> Tensor:
        """The neuron of each spike by its number in the population, also where only some neurons were recorded."""
        if self.numbers is None:
            return self.neurons
        last = self.neurons.remainder(self.shape[-1]) if self.numbers.dim() else torch.zeros_like(self.neurons)
        return self.numbers.reshape(-1)[last]

    @property
    def duration(self) -> u.Quantity:
        """The time that was recorded."""
        return u.quantity((self.stop - self.start) * self.dt, "ms")

    @property
    def counts(self) -> Tensor:
        """Number of spikes of each neuron, ``(*batch, *size)``."""
        return torch.bincount(self.neurons, minlength=math.prod(self.shape)).view(self.shape)

    @property
    def rates(self) -> u.Quantity:
        """Mean rate of each neuron."""
        return u.quantity(self.counts / ((self.stop - self.start) * self.dt * 1e-3), "Hz")

    def sample(self, *index: int) -> Events:
        """The events of one sample of the batch."""
        lead, shape = self.shape[: len(index)], self.shape[len(index) :]
        index = tuple(i + n if i < 0 else i for i, n in zip(index, lead, strict=True))
        if any(not 0 <= i < n for i, n in zip(index, lead, strict=True)):
            raise IndexError(f"Events.sample: no sample {index} in a batch of shape {lead}")
        which = sum(i * math.prod(self.shape[d + 1 :]) for d, i in enumerate(index))
        inside = (self.neurons >= which) & (self.neurons < which + math.prod(shape))
        neurons = self.neurons[inside] - which
        numbers = numbers_of_sample(self.numbers, self.shape, index)
        return Events(self.steps[inside], neurons, shape, self.start, self.stop, self.dt, self.name, numbers)

    def to_tensor(self, dtype: torch.dtype | None = None) -> Tensor:
        """0 and 1, ``(steps, *batch, *size)``."""
        dense = torch.zeros(
            self.stop - self.start,
            math.prod(self.shape),
            dtype=dtype or torch.get_default_dtype(),
            device=self.steps.device,
        )
        dense[self.steps - self.start, self.neurons] = 1
        return dense.view(-1, *self.shape)

    def to_numpy(self) -> tuple[u.Quantity, Any]:
        """Times with their unit and neurons, as arrays."""
        return u.quantity(self.times.magnitude.cpu().numpy(), "ms"), self.neurons.cpu().numpy()

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each spike: its time in ms, and its neuron by its place in `shape`."""
        return convert.frame_of_events(self)

    def to_neo(self) -> list[Any]:
        """A ``neo.SpikeTrain`` for each neuron, counted through `shape`."""
        return convert.trains_of_events(self)

    def summary(self) -> tuple[str, ...]:
        """Kind, time, shape and activity, as they are printed."""
        span = f"{self.stop - self.start} x {self.dt:g} ms from {self.start * self.dt:g} ms"
        rate = len(self) / max(math.prod(self.shape), 1) / ((self.stop - self.start) * self.dt * 1e-3)
        return "Events", span, str(self.shape), f"{len(self)} spikes, {rate:.3g} Hz"

    def __repr__(self) -> str:
        kind, *rest = self.summary()
        return f"<{f'{kind} {self.name}'.strip()}: {', '.join(rest)}>"
