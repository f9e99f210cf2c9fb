"""The phase plane of a neuron with two states."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import check
from ..record import Recording
from .style import COLORS, LEGEND, array, axes, label

_POINTS, _ARROWS = 400, 20
_SHORTER = 1000  # dt over the time step with which the plane is computed


def phase_plane(
    neuron: Dynamics,
    I: Any = 0 * u.pA,
    *,
    trajectory: Recording | None = None,
    x: Any = None,
    y: Any = None,
    index: int = 0,
    ax: Any = None,
) -> Any:
    """Nullclines, the direction of flow, and a trajectory of a model with two states.

    All of it comes from the model's own ``step``, called from every point of a grid in float64 with dt / 1000: a
    nullcline is where a state does not change in such a step. Points from which it spikes are left blank.

    Args:
        neuron: such as `AdEx`, `Izhikevich` or `MorrisLecar`; its first state is across, its second upwards.
        I: constant input current, a quantity.
        trajectory: a `Recording` of both states, as ``simulate(neuron, ..., record=("V", "w"))`` gives it. Jumps, as
            at a reset, are dotted.
        x, y: limits ``(low, high)`` of the states, quantities; by default around the trajectory.
        index: which neuron of the population.
        ax: axes to draw on.
    """
    if len(neuron.states) != 2:
        names = ", ".join(neuron.states)
        raise ValueError(f"phase_plane: wanted a model with two states, {neuron._label()} has {names}")
    names = list(neuron.states)
    units = [neuron.state_unit(name) for name in names]
    lines = None if trajectory is None else [array(_line(trajectory, name, index)) for name in names]
    limits = [
        _limits(given, name, unit, None if lines is None else lines[k])
        for k, (given, name, unit) in enumerate(zip((x, y), names, units, strict=True))
    ]
    ax = axes(ax)
    X, Y, dX, dY = (array(z) for z in _flow(neuron, I, limits, index, _POINTS))
    for change, name, color, style in ((dX, names[0], COLORS[0], "solid"), (dY, names[1], COLORS[1], "dashed")):
        ax.contour(X, Y, change, levels=[0.0], colors=[color], linestyles=[style], linewidths=1.8)
        ax.plot([], [], color=color, linestyle=style, linewidth=1.8, label=f"d{name}/dt = 0")
    X, Y, dX, dY = (array(z) for z in _flow(neuron, I, limits, index, _ARROWS))
    width, height = (high - low for low, high in limits)
    dX, dY = dX / width, dY / height
    length = (dX**2 + dY**2) ** 0.5
    ax.quiver(X, Y, dX / length, dY / length, color="0.65", angles="uv", pivot="mid", width=0.0025, scale=32, zorder=0)
    ax.plot([], [], color="0.65", marker=r"$\rightarrow$", markersize=12, linestyle="none", label="flow")
    if lines is not None:
        _draw(ax, lines[0], lines[1], (width, height))
    ax.set(xlim=limits[0], ylim=limits[1], xlabel=label(names[0], units[0]), ylabel=label(names[1], units[1]))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize="small", columnspacing=1.2, **LEGEND)
    return ax


def _flow(neuron: Dynamics, I: Any, limits: list[tuple[float, float]], index: int, points: int) -> list[Tensor]:
    """A grid of the two states, and how fast each changes there; NaN where the neuron spikes."""
    model = copy.deepcopy(neuron).to(torch.float64)
    model.dt = neuron.dt / _SHORTER
    axis = [torch.linspace(low, high, points, dtype=torch.float64) for low, high in limits]
    grid = torch.meshgrid(*axis, indexing="xy")
    device = next(iter(model.buffers())).device
    lead = [value.reshape(-1, *(1 for _ in model.size)).expand(-1, *model.size).to(device) for value in grid]
    current = check(I, u.canonical_unit("pA"), (), "phase_plane: I", device, torch.float64)
    with torch.no_grad():
        spike, *new = model.step(current.expand_as(lead[0]), *lead)
    blank = spike.flatten(1)[:, index] != 0
    found = []
    for before, after in zip(lead, new, strict=True):
        change = ((after - before) / model.dt).flatten(1)[:, index]
        found.append(torch.where(blank, torch.nan, change).view(points, points))
    # what runs away would drown the zero crossing of its neighbour: keep the sign, bound the size
    scale = [change[change.isfinite()].abs().median() for change in found]
    return [*grid, *(change / (change.abs() + s) * s for change, s in zip(found, scale, strict=True))]


def _line(trajectory: Recording, name: str, index: int) -> Tensor:
    trace = trajectory[name]
    return trace.values.reshape(len(trace.values), -1)[:, index]


def _limits(given: Any, name: str, unit: Any, line: Any) -> tuple[float, float]:
    if given is not None:
        low, high = check(given, unit, (2,), f"phase_plane: the limits of {name}", None, torch.float64).tolist()
        return low, high
    if line is None:
        raise ValueError(f"phase_plane: give the limits of {name}, a quantity (low, high), or a trajectory")
    margin = 0.1 * float(line.max() - line.min()) or 1.0
    return float(line.min()) - margin, float(line.max()) + margin


def _draw(ax: Any, x: Any, y: Any, size: tuple[float, float]) -> None:
    """The trajectory; steps over a quarter of the picture are dotted."""
    jump = (np.abs(np.diff(x)) > size[0] / 4) | (np.abs(np.diff(y)) > size[1] / 4)
    ends = np.flatnonzero(jump)
    for k, part in enumerate(np.split(np.arange(len(x)), ends + 1)):
        ax.plot(x[part], y[part], color="black", linewidth=1, label="trajectory" if k == 0 else None)
    for k, end in enumerate(ends):
        style = {"color": "black", "linewidth": 0.8, "linestyle": "dotted", "label": "jump" if k == 0 else None}
        ax.plot(x[end : end + 2], y[end : end + 2], **style)
    ax.plot(x[0], y[0], "o", color="black", markersize=5, label="start")
