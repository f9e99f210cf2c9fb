"""Records by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import convert
from .events import Events
from .joined import joined_records, record_of, tree_of
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
        >>> nd.Recording.join(nd.simulate(net, 50 * u.ms, I, ["spikes"], compile=False), rest)
        Recording up to step 100
          spikes  Events  100 x 1 ms from 0 ms  (3,)  31 spikes, 103 Hz
    """

    records: dict[str, Trace | Events]
    states: dict[str, Tensor] = field(repr=False)
    step: int = 0

    def __getitem__(self, name: str) -> Any:
        try:
            return self.records[name]
        except KeyError:
            raise KeyError(f"no record {name!r}; there are {', '.join(self.records) or 'none'}") from None

    if not TYPE_CHECKING:  # which would take every name for one

        def __getattr__(self, name: str) -> Any:
            hint = f'; write recording["{name}"]' if name in vars(self).get("records", ()) else ""
            raise AttributeError(f"Recording has no {name}{hint}", name=name, obj=self)

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def join(cls, *parts: Recording) -> Recording:
        """Recordings that follow each other, as one, with the states of the last.

        Raises:
            ValueError: recordings of other things, or with a gap between them.
        """
        if not parts:
            raise ValueError("join: there is no recording to join")
        return cls(joined_records(parts), parts[-1].states, parts[-1].step)

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors, numbers and strings: ``nd.save(path, recording=recording)`` writes it."""
        records = {name: tree_of(record) for name, record in self.records.items()}
        return {"records": records, "states": dict(self.states), "step": self.step}

    @classmethod
    def from_state_dict(cls, tree: Mapping[str, Any]) -> Recording:
        """The recording in a file: ``nd.Recording.from_state_dict(nd.load(path)["recording"])``."""
        records = {name: record_of(record) for name, record in tree["records"].items()}
        return cls(records, dict(tree["states"]), tree["step"])

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
