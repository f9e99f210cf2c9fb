"""Values over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt, get_default_dt
from ..record import Events, Trace
from .style import COLORS, LEGEND, array, axes, label


def traces(
    values: Trace | Tensor | u.Quantity,
    neurons: Sequence[int] | None = None,
    *,
    spikes: Events | Tensor | None = None,
    name: str | None = None,
    dt: Any = None,
    ax: Any = None,
    **style: Any,
) -> Any:
    """A line for each neuron: time in ms across, the value with its unit upwards.

    Args:
        values: a `Trace` of one population, or a tensor or quantity ``(T, size)`` or ``(T,)``.
        neurons: which ones, by their place in `values`; all by default, of which there may then be six.
        spikes: of the same neurons, or events of the population to which a trace of some neurons belongs; each is
            marked by a line above the values, as the reset hides the spike itself.
        name: of the value, for the axis; by default the state of the trace.
        dt: time step of a tensor; `get_default_dt()` if not given.
        ax: axes to draw on.
        style: keywords of ``Axes.plot``.
    """
    trace = values if isinstance(values, Trace) else _trace(values, dt)
    lines = trace.values.unsqueeze(1) if trace.values.dim() == 1 else trace.values
    if lines.dim() != 2:
        raise ValueError(
            f"traces: the values have shape {trace.shape} in each step, wanted one population (size,); choose one "
            "sample of the batch, as with trace.sample(0)"
        )
    if neurons is None and lines.shape[1] > len(COLORS):
        raise ValueError(f"traces: {lines.shape[1]} lines are too many to tell apart; choose some with neurons=")
    ax = axes(ax)
    times = array(trace.times) + trace.dt  # values hold at the end of their step
    chosen = range(lines.shape[1]) if neurons is None else neurons
    numbers = range(lines.shape[1]) if trace.numbers is None else trace.numbers.reshape(-1).tolist()
    for k, neuron in enumerate(chosen):
        own = {"color": COLORS[k % len(COLORS)], "label": f"{numbers[neuron]}"}
        ax.plot(times, array(lines[:, neuron]), **(own | style))
    if spikes is not None:
        _mark(ax, Events.of(spikes, None if isinstance(spikes, Events) else dt), lines, chosen, trace)
    if len(chosen) > 1:
        ax.legend(title="neuron", **LEGEND)
    ax.set(
        xlim=(trace.start * trace.dt, times[-1]),
        xlabel="time (ms)",
        ylabel=label(name if name is not None else trace.name.rpartition(".")[2] or "value", trace.unit),
    )
    return ax


def _mark(ax: Any, spikes: Events, lines: Tensor, chosen: Sequence[int], trace: Trace) -> None:
    """A vertical line for each spike, in the color of its neuron, above all values that are drawn."""
    n = lines.shape[1]
    numbers = torch.arange(n) if trace.numbers is None else trace.numbers.reshape(-1)
    known = torch.arange(math.prod(spikes.shape)) if spikes.numbers is None else spikes.numbers.reshape(-1)
    wanted = numbers[list(chosen)].tolist()
    some = trace.numbers is not None or spikes.numbers is not None  # of a population: told apart by their numbers
    if len(spikes.shape) > 1 or (not some and spikes.shape != (n,)) or not set(wanted) <= set(known.tolist()):
        kinds = f"are of shape {spikes.shape} in each step, the values of {(n,)}"
        if some and len(spikes.shape) == 1:
            kinds = f"are those of the neurons {known.tolist()}, and the values those of {wanted}"
        raise ValueError(f"traces: the spikes {kinds}; record both of the same neurons, and choose some with neurons=")
    low, high = (float(bound) for bound in lines[:, list(chosen)].detach().double().aminmax())
    times, senders = array(spikes.times) + trace.dt, array(spikes.senders)
    for line, number in zip(ax.lines[-len(chosen) :], wanted, strict=True):
        own = times[senders == number]
        ax.vlines(own, high, high + 0.2 * (high - low or 1.0), color=line.get_color(), linewidth=line.get_linewidth())


def _trace(values: Tensor | u.Quantity, dt: Any) -> Trace:
    if hasattr(values, "records"):
        raise TypeError('traces: wanted a Trace or a tensor, got Recording; give one of its records, recording["V"]')
    given: Any = values if u.is_quantity(values) else u.quantity(values, "dimensionless")
    step = as_dt(get_default_dt() if dt is None else dt, "traces: dt")
    return Trace(torch.as_tensor(given.magnitude), given.units, 0, step)
