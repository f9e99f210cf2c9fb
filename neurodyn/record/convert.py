"""Records as pandas frames and Neo objects."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tools.extras import needed

if TYPE_CHECKING:
    from .events import Events
    from .recording import Recording
    from .trace import Trace


def frame_of_trace(trace: Trace) -> Any:
    """A row for each step, a column for each neuron."""
    pandas = needed("pandas", "pandas", "to_pandas")
    index = pandas.Index(trace.times.magnitude.numpy(), name="time (ms)")
    axes = _axes(trace)
    if len(axes) > 1:
        columns = pandas.MultiIndex.from_product([*axes.values()], names=[*axes])
    else:
        columns = pandas.Index(next(iter(axes.values()), range(1)), name="neuron")
    frame = pandas.DataFrame(_channels(trace), index, columns)
    frame.attrs = {"name": trace.name, "unit": f"{trace.unit:~}"}
    return frame


def frame_of_events(events: Events) -> Any:
    """A row for each spike."""
    pandas = needed("pandas", "pandas", "to_pandas")
    columns = {"time (ms)": events.times.magnitude.cpu().numpy()}
    for name, place in zip(_axes(events), events.index, strict=False):
        columns[name] = place.cpu().numpy()
    if events.numbers is not None:
        columns["neuron"] = events.senders.cpu().numpy()
    return pandas.DataFrame(columns)


def signal_of_trace(trace: Trace) -> Any:
    """An analog signal with a channel for each neuron."""
    neo, quantities = needed("neo", "neo", "to_neo"), needed("quantities", "neo", "to_neo")
    labels = _labels(trace)
    return neo.AnalogSignal(
        _channels(trace),
        units="dimensionless" if trace.unit.dimensionless else f"{trace.unit:D}".replace(" ", ""),
        t_start=trace.start * trace.dt * quantities.ms,
        sampling_period=trace.dt * quantities.ms,
        name=trace.name,
        array_annotations={name: np.array([label[name] for label in labels]) for name in labels[0]} if labels else {},
    )


def trains_of_events(events: Events) -> list[Any]:
    """A spike train for each neuron."""
    neo = needed("neo", "neo", "to_neo")
    times, neurons = events.times.magnitude.cpu().numpy(), events.neurons.cpu().numpy()
    order = np.argsort(neurons, kind="stable")
    ends = np.cumsum(events.counts.flatten().cpu().numpy())
    span = {"units": "ms", "t_start": events.start * events.dt, "t_stop": events.stop * events.dt}
    return [
        neo.SpikeTrain(times[part], name=events.name, **label, **span)
        for label, part in zip(_labels(events), np.split(order, ends[:-1]), strict=True)
    ]


def segment_of_recording(recording: Recording) -> Any:
    """A segment with all records."""
    segment = needed("neo", "neo", "to_neo").Segment(name="neurodyn")
    for record in recording.values():
        made = record.to_neo()
        if isinstance(made, list):
            segment.spiketrains.extend(made)
        else:
            segment.analogsignals.append(made)
    return segment


def _axes(record: Trace | Events) -> dict[str, Any]:
    """Names of the dimensions, the last of which counts neurons, and the numbers along each."""
    numbers, shape = record.numbers, record.shape
    one = numbers is not None and not numbers.dim()  # its dimension was taken away
    lead = shape if one else shape[:-1]
    found: dict[str, Any] = {f"batch {i}" if len(lead) > 1 else "batch": range(n) for i, n in enumerate(lead)}
    if numbers is not None:
        found["neuron"] = numbers.reshape(-1).tolist()
    elif shape:
        found["neuron"] = range(shape[-1])
    return found


def _labels(record: Trace | Events) -> list[dict[str, int]]:
    """What each channel is called: by its numbers in each dimension, or by its place among all that were recorded."""
    if record.numbers is None:
        return [{"neuron": i} for i in range(math.prod(record.shape))]
    axes = _axes(record)
    return [dict(zip(axes, numbers, strict=True)) for numbers in itertools.product(*axes.values())]


def _channels(trace: Trace) -> np.ndarray:
    values = trace.values.detach().cpu()
    return values.reshape(len(values), -1).numpy()
