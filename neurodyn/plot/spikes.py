"""Pictures of spikes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import analysis
from ..core.dynamics import as_dt
from ..record import Events
from ..tools.extras import needed
from .style import COLORS, LEGEND, array, axes


def raster(
    spikes: Events | Tensor,
    *,
    groups: Mapping[str, int] | None = None,
    sample: int | None = None,
    transient: Any = None,
    dt: Any = None,
    ax: Any = None,
    **style: Any,
) -> Any:
    """A mark for every spike: time in ms across, neurons upwards.

    Args:
        spikes: `Events` of one population, or a tensor ``(T, size)``, not zero where there is a spike.
        groups: names and sizes of the parts of the population, in order: each gets its own color and its name at the
            side, from the top down, such as ``{"E": 3200, "I": 800}``.
        sample: draw no more than so many neurons, evenly spaced, of each group in proportion to its size; all if None.
        transient: the time until when the network settles, a quantity, which is shaded.
        dt: time step of a tensor; `get_default_dt()` if not given.
        ax: axes to draw on.
        style: keywords of ``Axes.scatter``.
    """
    events = _of_one_population("raster", spikes, dt)
    ax = axes(ax)
    size = events.shape[0]
    _check_groups("raster", groups, size)
    sizes = [size] if groups is None else [*groups.values()]
    drawn = _sample(sizes, sample)
    place = np.full(size, -1)
    place[np.concatenate(drawn)] = np.arange(sum(map(len, drawn)))
    inside = place[array(events.neurons)] >= 0
    times, places = array(events.times)[inside], place[array(events.neurons)[inside]]
    shown = sum(map(len, drawn))
    # a line of the height of a neuron in usual axes, as long as there is room for lines; dots beyond
    height = max(1.4, min(8.0, 160 / shown))
    lines = {"s": height**2, "marker": "|", "linewidths": 0.8}
    dots = {"s": min(6.0, max(0.6, 2400 / shown)), "marker": ".", "linewidths": 0, "snap": False}
    few = lines if shown <= 300 else dots
    style = few | {"color": "black", "rasterized": len(times) > 20_000} | style
    span = (events.start * events.dt, events.stop * events.dt)
    ax.set(xlim=span, ylim=(-0.5, shown - 0.5), xlabel="time (ms)", ylabel=_of_all("neuron", shown, size))
    if groups is None:
        ax.scatter(times, places, **style)
        ax.yaxis.get_major_locator().set_params(integer=True)
        if events.numbers is not None and events.numbers.dim():
            numbers = array(events.numbers)[np.concatenate(drawn)]
            ax.yaxis.set_major_formatter(lambda y, _: f"{numbers[int(y)]}" if 0 <= y < len(numbers) else "")
    else:
        bounds = np.cumsum([0, *map(len, drawn)])
        for i, (low, high) in enumerate(itertools.pairwise(bounds)):  # two colors take turns: those of a layer differ
            own = (places >= low) & (places < high)
            ax.scatter(times[own], places[own], **(style | {"color": COLORS[i % 2]}))
        ax.set_yticks((bounds[1:] + bounds[:-1] - 1) / 2, list(groups))
        ax.invert_yaxis()
        ax.set_ylabel(_of_all("", shown, size))
    _shade(ax, transient, span)
    return ax


def activity(
    spikes: Events | Tensor,
    window: Any,
    *,
    groups: Mapping[str, int] | None = None,
    rates: Sequence[str] | None = None,
    sample: int | None = 200,
    transient: Any = None,
    dt: Any = None,
    figure: Any = None,
) -> tuple[Any, Any]:
    """A raster of some neurons, and beneath it the rates of the population, as in papers.

    The rates are those of all neurons, in windows that follow each other; what does not fill the last window is left
    out. Of up to two groups each has a line in its color; of more, excitatory and inhibitory ones have a line each if
    all their names end in E or I, such as "L4E", else there is one line for all, or what `rates` says.

    Args:
        spikes, groups, sample, transient, dt: see `raster`.
        window: a quantity, a multiple of the time step.
        rates: the names of the groups that have a line each.
        figure: to draw in, which is empty; a new one if not given.

    Returns:
        The axes of the raster and those of the rates.
    """
    events = _of_one_population("activity", spikes, dt)
    size = events.shape[0]
    _check_groups("activity", groups, size)
    if figure is None:
        figure = needed("matplotlib.pyplot", "plot", "neurodyn.plot").figure(figsize=(7, 5), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    raster(events, groups=groups, sample=sample, transient=transient, ax=top).set_xlabel("")
    steps = round(as_dt(window, "window") / events.dt)
    stop = events.start + (events.stop - events.start) // max(steps, 1) * steps
    for label, color, which in _lines(groups, rates, size):
        counted = which[array(events.neurons)] & (array(events.steps) < stop)
        own = torch.from_numpy(np.flatnonzero(counted)).to(events.steps.device)
        place = torch.from_numpy(np.cumsum(which) - 1).to(events.neurons.device)
        part = Events(events.steps[own], place[events.neurons[own]], (int(which.sum()),), events.start, stop, events.dt)
        if stop > events.start:
            population_rate(part, window, ax=bottom, color=color, label=label or None)
    highest = max((float(line.get_data().values.max(initial=0)) for line in bottom.patches), default=0.0)
    bottom.set_ylim(0, 1.1 * highest or 1.0)
    if bottom.get_legend_handles_labels()[1]:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1.02), "borderaxespad": 0}
        bottom.legend(ncols=2, fontsize="small", **place, **LEGEND)
    span = (events.start * events.dt, events.stop * events.dt)
    _shade(bottom, transient, span, named=False)
    bottom.set(xlim=span, xlabel="time (ms)", ylabel="rate (Hz)")
    return top, bottom


def _lines(groups: Mapping[str, int] | None, rates: Sequence[str] | None, size: int) -> list[tuple[str, str, Any]]:
    """Name, color and neurons of each line of rates."""
    names = [] if groups is None else list(groups)
    sizes = [] if groups is None else list(groups.values())
    if rates is not None:
        if unknown := [name for name in rates if name not in names]:
            raise ValueError(f"activity: rates has {unknown[0]!r}, which is no group; there are {', '.join(names)}")
        of_each = np.repeat(names, sizes)
        return [(name, COLORS[i % len(COLORS)], of_each == name) for i, name in enumerate(rates)]
    if len(names) > 2 and all(name[-1:] in ("E", "I") for name in names):
        kinds = np.repeat([name[-1] for name in names], sizes)
        return [(kind, COLORS[i], kinds == kind) for i, kind in enumerate("EI") if (kinds == kind).any()]
    if not 0 < len(names) <= 2:
        return [("", "black", np.ones(size, bool))]
    of_each = np.repeat(np.arange(len(names)), sizes)
    return [(name, COLORS[i], of_each == i) for i, name in enumerate(names)]


def _sample(sizes: list[int], most: int | None) -> list[Any]:
    """The neurons that are drawn of each group."""
    size, first, found = sum(sizes), 0, []
    if most is not None and most < 1:
        raise ValueError(f"raster: sample must be at least 1, got {most}")
    for n in sizes:
        k = n if most is None or most >= size else min(n, max(1, round(most * n / size)))
        found.append(first + np.linspace(0, n - 1, k).round().astype(int))
        first += n
    return found


def _shade(ax: Any, transient: Any, span: tuple[float, float], named: bool = True) -> None:
    if transient is None or (end := as_dt(transient, "transient")) <= span[0]:
        return
    ax.axvspan(span[0], min(end, span[1]), color="0.88", linewidth=0, zorder=0)
    if named:
        style = {"fontsize": "small", "color": "0.35", "ha": "left", "va": "bottom"}
        ax.annotate("transient", (span[0], 1), (0, 2), ("data", "axes fraction"), "offset points", **style)


def _of_all(name: str, shown: int, size: int) -> str:
    return name if shown == size else f"{name} ({shown} of {size})" if name else f"{shown} of {size} neurons"


def _check_groups(picture: str, groups: Mapping[str, int] | None, size: int) -> None:
    if groups is not None and sum(groups.values()) != size:
        together = sum(groups.values())
        raise ValueError(f"{picture}: the groups have {together} neurons together, the spikes come from {size}")


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
