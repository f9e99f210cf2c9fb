"""Records as pandas frames and Neo objects."""

from __future__ import annotations

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
    if len(trace.shape) > 1:
        columns = pandas.MultiIndex.from_product([range(n) for n in trace.shape], names=_axes(trace.shape))
    else:
        columns = pandas.RangeIndex(trace.values[0].numel(), name="neuron")
    frame = pandas.DataFrame(_channels(trace), index, columns)
    frame.attrs = {"name": trace.name, "unit": f"{trace.unit:~}"}
    return frame


def frame_of_events(events: Events) -> Any:
    """A row for each spike."""
    pandas = needed("pandas", "pandas", "to_pandas")
    columns = {"time (ms)": events.times.magnitude.cpu().numpy()}
    for name, place in zip(_axes(events.shape), events.index, strict=True):
        columns[name] = place.cpu().numpy()
    return pandas.DataFrame(columns)


def signal_of_trace(trace: Trace) -> Any:
    """An analog signal with a channel for each neuron."""
    neo, quantities = needed("neo", "neo", "to_neo"), needed("quantities", "neo", "to_neo")
    return neo.AnalogSignal(
        _channels(trace),
        units="dimensionless" if trace.unit.dimensionless else f"{trace.unit:D}".replace(" ", ""),
        t_start=trace.start * trace.dt * quantities.ms,
        sampling_period=trace.dt * quantities.ms,
        name=trace.name,
    )


def trains_of_events(events: Events) -> list[Any]:
    """A spike train for each neuron."""
    neo = needed("neo", "neo", "to_neo")
    times, neurons = events.times.magnitude.cpu().numpy(), events.neurons.cpu().numpy()
    order = np.argsort(neurons, kind="stable")
    ends = np.cumsum(events.counts.flatten().cpu().numpy())
    span = {"units": "ms", "t_start": events.start * events.dt, "t_stop": events.stop * events.dt}
    return [
        neo.SpikeTrain(times[part], name=events.name, neuron=i, **span)
        for i, part in enumerate(np.split(order, ends[:-1]))
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


def _axes(shape: tuple[int, ...]) -> list[str]:
    """Names of the dimensions: the last one counts neurons."""
    return [f"batch {i}" if len(shape) > 2 else "batch" for i in range(len(shape) - 1)] + ["neuron"] * bool(shape)


def _channels(trace: Trace) -> np.ndarray:
    values = trace.values.detach().cpu()
    return values.reshape(len(values), -1).numpy()
