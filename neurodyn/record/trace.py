"""A recorded value, such as a potential, at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pint
import torch
from torch import Tensor

from .. import units as u
from . import convert
from .numbers import numbers_of_sample


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """A value at every step.

    Attributes:
        values: ``(steps, *batch, *size)``, in `unit`.
        unit: a pint unit.
        start: the first step; step i begins at the time ``i * dt``, and `values` holds what was true at its end.
        dt: time step in ms.
        name: what was recorded, such as "N.V".
        numbers: where some neurons of a population were recorded, which: one number for each place in the last
            dimension of `values`, or a single one where that dimension was taken away; None for all.

    Example:
        >>> recording = nd.simulate(nd.LIF(2, R=1 * u.Gohm), 4 * u.ms, torch.tensor([0.5, 0.9]), ["V"], compile=False)
        >>> recording["V"]
        <Trace V: 4 x 1 ms from 0 ms, (2,), 0.09063 to 0.4956 mV>
        >>> print(recording["V"].quantity[-1])
        tensor([0.2753, 0.4956]) millivolt
        >>> recording["V"].times.to("s").magnitude[-1].item()
        0.003
        >>> frame = recording["V"].to_pandas()
        >>> frame.shape, frame.attrs
        ((4, 2), {'name': 'V', 'unit': 'mV'})
    """

    values: Tensor
    unit: pint.Unit
    start: int
    dt: float
    name: str = ""
    numbers: Tensor | None = None

    if not TYPE_CHECKING:  # which would take every name for one

        def __getattr__(self, name: str) -> Any:
            hint = "; write .times" if name == "t" else ""
            raise AttributeError(f"Trace has no {name}{hint}", name=name, obj=self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The values for NumPy, without their unit."""
        return np.array(self.values.detach().cpu().numpy(), dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*batch, *size)``."""
        return tuple(self.values.shape[1:])

    @property
    def times(self) -> u.Quantity:
        """When each step began."""
        return u.quantity((self.start + torch.arange(len(self.values), dtype=torch.float64)) * self.dt, "ms")

    @property
    def quantity(self) -> u.Quantity:
        """The values with their unit."""
        return u.quantity(self.values, self.unit)

    def sample(self, *index: int) -> Trace:
        """The trace of one sample of the batch."""
        values, numbers = self.values[(slice(None), *index)], numbers_of_sample(self.numbers, self.shape, index)
        return Trace(values, self.unit, self.start, self.dt, self.name, numbers)

    def to_numpy(self) -> u.Quantity:
        """The values as an array with its unit."""
        return u.quantity(self.values.detach().cpu().numpy(), self.unit)

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each step and a column for each neuron; its ``attrs`` hold name and unit."""
        return convert.frame_of_trace(self)

    def to_neo(self) -> Any:
        """A ``neo.AnalogSignal`` with a channel for each neuron, counted through `shape`."""
        return convert.signal_of_trace(self)

    def summary(self) -> tuple[str, ...]:
        """Kind, time, shape and range, as they are printed."""
        values = self.values.detach()
        spread = "empty"
        if values.numel():
            low, high = values.double().aminmax()
            spread = f"{low.item():.4g} to {high.item():.4g} {self.unit:~}".strip()
        span = f"{len(values)} x {self.dt:g} ms from {self.start * self.dt:g} ms"
        return "Trace", span, str(self.shape), spread

    def __repr__(self) -> str:
        kind, *rest = self.summary()
        return f"<{f'{kind} {self.name}'.strip()}: {', '.join(rest)}>"
