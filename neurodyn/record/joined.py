"""Records that follow each other in time as one, and records as trees for a file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .. import units as u
from .events import Events
from .trace import Trace

if TYPE_CHECKING:
    from .recording import Recording


def joined_traces(parts: Sequence[Trace]) -> Trace:
    """Traces of one thing, each beginning where the last one ended."""
    first = parts[0]
    for before, after in itertools.pairwise(parts):
        _check(before, after, before.start + len(before.values), after.start)
        if before.unit != after.unit:
            raise ValueError(f"join: {before.name!r} is in {before.unit:~} and then in {after.unit:~}")
    values = torch.cat([part.values for part in parts])
    return Trace(values, first.unit, first.start, first.dt, first.name, first.numbers)


def joined_events(parts: Sequence[Events]) -> Events:
    """The same for spikes."""
    first = parts[0]
    for before, after in itertools.pairwise(parts):
        _check(before, after, before.stop, after.start)
    steps, neurons = (torch.cat([getattr(part, name) for part in parts]) for name in ("steps", "neurons"))
    return Events(steps, neurons, first.shape, first.start, parts[-1].stop, first.dt, first.name, first.numbers)


def joined_records(parts: Sequence[Recording]) -> dict[str, Trace | Events]:
    """The records of recordings that follow each other."""
    names = list(parts[0])
    for part in parts:
        if list(part) != names:
            raise ValueError(f"join: one recording has {', '.join(names)}, another one {', '.join(part)}")
    found: dict[str, Trace | Events] = {}
    for name in names:
        records = [part[name] for part in parts]
        found[name] = joined_traces(records) if isinstance(records[0], Trace) else joined_events(records)
    return found


def _check(before: Any, after: Any, stop: int, start: int) -> None:
    name = before.name
    if type(before) is not type(after) or before.shape != after.shape or before.dt != after.dt:
        kinds = (f"{type(x).__name__} of shape {x.shape} at {x.dt:g} ms" for x in (before, after))
        raise ValueError(f"join: {name!r} is {' and then '.join(kinds)}")
    if _listed(before.numbers) != _listed(after.numbers):
        numbers = (f"neurons {_listed(x.numbers) if x.numbers is not None else '(all)'}" for x in (before, after))
        raise ValueError(f"join: {name!r} is of {' and then of '.join(numbers)}")
    if stop != start:
        raise ValueError(
            f"join: {name!r} ends with step {stop} and goes on with step {start}; give the recordings in order, each "
            "simulated with states=last.states, start=last.step"
        )


def _listed(numbers: Any) -> Any:
    return None if numbers is None else numbers.tolist()


def tree_of(record: Trace | Events) -> dict[str, Any]:
    """What a file holds of a record."""
    common = {"start": record.start, "dt": record.dt, "name": record.name}
    if record.numbers is not None:
        common["numbers"] = record.numbers
    if isinstance(record, Trace):
        return common | {"kind": "Trace", "values": record.values.detach(), "unit": str(record.unit)}
    events = {"steps": record.steps, "neurons": record.neurons, "shape": list(record.shape), "stop": record.stop}
    return common | {"kind": "Events"} | events


def record_of(tree: Mapping[str, Any]) -> Trace | Events:
    """The record that `tree_of` described."""
    values: dict[str, Any] = dict(tree)
    if values.pop("kind") == "Trace":
        values["unit"] = u.registry.Unit(values["unit"])
        return Trace(**values)
    values["shape"] = tuple(values["shape"])
    return Events(**values)
