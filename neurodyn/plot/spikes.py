"""Pictures of spikes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from .. import analysis
from ..core.dynamics import as_dt
from ..record import Events
from .style import COLORS, array, axes


def raster(
    spikes: Events | Tensor, *, groups: Mapping[str, int] | None = None, dt: Any = None, ax: Any = None, **style: Any
) -> Any:
    """A mark for every spike: time in ms across, neurons upwards.

    Args:
        spikes: `Events` of one population, or a tensor ``(T, size)``, not zero where there is a spike.
        groups: names and sizes of the parts of the population, in order: each gets its own color and its name at the
            side, from the top down, such as ``{"E": 3200, "I": 800}``.
        dt: time step of a tensor; `get_default_dt()` if not given.
        ax: axes to draw on.
        style: keywords of ``Axes.scatter``.
    """
    events = _of_one_population("raster", spikes, dt)
    ax = axes(ax)
    size = events.shape[0]
    times, neurons = array(events.times), array(events.neurons)
    # a line of the height of a neuron in usual axes, as long as there is room for lines; dots beyond
    height = max(1.4, min(8.0, 160 / size))
    lines = {"s": height**2, "marker": "|", "linewidths": 0.8}
    few = lines if size <= 300 else {"s": 0.6, "marker": ".", "linewidths": 0, "snap": False}
    style = few | {"color": "black", "rasterized": len(times) > 20_000} | style
    if groups is None:
        ax.scatter(times, neurons, **style)
    else:
        _grouped(ax, times, neurons, groups, size, style)
    span = (events.start * events.dt, events.stop * events.dt)
    ax.set(xlim=span, ylim=(-0.5, size - 0.5), xlabel="time (ms)", ylabel="neuron")
    if groups is None:
        ax.yaxis.get_major_locator().set_params(integer=True)
    else:
        ax.invert_yaxis()
        ax.set_ylabel("")
    return ax


def _grouped(ax: Any, times: Any, neurons: Any, groups: Mapping[str, int], size: int, style: dict[str, Any]) -> None:
    """The spikes of each group in a color; two take turns, so that those of a layer differ."""
    bounds = np.cumsum([0, *groups.values()])
    if bounds[-1] != size:
        raise ValueError(f"raster: the groups have {bounds[-1]} neurons together, the spikes come from {size}")
    for i, (low, high) in enumerate(itertools.pairwise(bounds)):
        inside = (neurons >= low) & (neurons < high)
        ax.scatter(times[inside], neurons[inside], **(style | {"color": COLORS[i % 2]}))
    ax.set_yticks((bounds[1:] + bounds[:-1] - 1) / 2, list(groups))


def population_rate(spikes: Events | Tensor, window: Any, *, dt: Any = None, ax: Any = None, **style: Any) -> Any:
    """The mean rate of a population in windows that follow each other, in Hz.

    Args:
        spikes, dt, ax: see `raster`.
        window: length of a window, a quantity; the recorded time is a multiple of it.
        style: keywords of ``Axes.stairs``.
    """
    events = _of_one_population("population_rate", spikes, dt)
    ax = axes(ax)
    rates = array(analysis.population_rate(events, window))
    edges = events.start * events.dt + np.arange(len(rates) + 1) * as_dt(window, "window")
    ax.stairs(rates, edges, **({"color": COLORS[0], "baseline": None} | style))
    ax.set(xlim=(edges[0], edges[-1]), xlabel="time (ms)", ylabel="rate (Hz)")
    ax.set_ylim(bottom=0)
    return ax


def _of_one_population(picture: str, spikes: Events | Tensor, dt: Any) -> Events:
    events = Events.of(spikes, dt)
    if len(events.shape) != 1:
        take = "spikes.sample(0)" if isinstance(spikes, Events) else "spikes[:, 0]"
        raise ValueError(
            f"{picture}: the spikes have shape {events.shape} in each step, wanted one population (size,); choose one "
            f"sample of the batch with {take}"
        )
    return events
