"""Records by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from . import convert
from .events import Events
from .trace import Trace


@dataclass(frozen=True, repr=False, eq=False)
class Recording(Mapping[str, Any]):
    """What `neurodyn.simulate` and ``neurodyn.unroll(record=)`` recorded, by name, and where the run stopped.

    Attributes:
        records: `Trace` or `Events` by name.
        states: the final states of the network, as `get_states` gives them.
        step: the number of steps done, from the very first; with `states` all that is needed to go on.

    Example:
        >>> net, I = nd.LIF(3, R=1 * u.Gohm), torch.tensor([1.1, 1.2, 1.3])
        >>> first = nd.simulate(net, 50 * u.ms, I, ["spikes", "V"], compile=False)
        >>> first
        Recording up to step 50
          spikes  Events  50 x 1 ms from 0 ms  (3,)  15 spikes, 100 Hz
          V       Trace   50 x 1 ms from 0 ms  (3,)  0.0002103 to 0.991 mV
        >>> rest = nd.simulate(net, 50 * u.ms, I, ["spikes"], states=first.states, start=first.step, compile=False)
        >>> rest.step, len(first["spikes"]) + len(rest["spikes"])
        (100, 31)
    """

    records: dict[str, Trace | Events]
    states: dict[str, Tensor] = field(repr=False)
    step: int = 0

    def __getitem__(self, name: str) -> Any:
        try:
            return self.records[name]
        except KeyError:
            raise KeyError(f"no record {name!r}; there are {', '.join(self.records) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def to_numpy(self) -> dict[str, Any]:
        """Every record as arrays with units, by name."""
        return {name: record.to_numpy() for name, record in self.records.items()}

    def to_pandas(self) -> dict[str, Any]:
        """Every record as a DataFrame, by name."""
        return {name: record.to_pandas() for name, record in self.records.items()}

    def to_neo(self) -> Any:
        """A ``neo.Segment`` with a signal for each trace and a spike train for each neuron."""
        return convert.segment_of_recording(self)

    def __repr__(self) -> str:
        rows = [(name, *record.summary()) for name, record in self.records.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n  ".join([f"Recording up to step {self.step}", *lines])
