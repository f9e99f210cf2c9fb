"""Spike counts and rates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt
from ..record import Events


def rates(spikes: Events | Tensor, dt: Any = None) -> u.Quantity:
    """Mean rate of each neuron in Hz, ``(*batch, *size)``.

    Args:
        spikes: `Events`, or a tensor ``(T, *batch, *size)``.
        dt: time step of a tensor; `get_default_dt()` if not given.

    Example:
        >>> print(nd.analysis.rates(torch.eye(4)[:, :2], dt=5 * u.ms))
        tensor([50., 50.]) hertz
    """
    return Events.of(spikes, dt).rates


def counts(spikes: Events | Tensor, window: Any, dt: Any = None) -> Tensor:
    """Number of spikes in windows that follow each other, ``(windows, *batch, *size)``.

    Args:
        spikes, dt: see `rates`.
        window: length of a window, a quantity; the recorded time is a multiple of it.

    Raises:
        ValueError: another window.

    Example:
        >>> nd.analysis.counts(torch.ones(6, 1), 3 * u.ms)
        tensor([[3],
                [3]])
    """
    events = Events.of(spikes, dt)
    length, total = as_dt(window, "window"), events.stop - events.start
    steps = round(length / events.dt)
    if steps < 1 or abs(length / events.dt - steps) > 1e-6 * steps or total % steps:
        raise ValueError(
            f"window={length:g} ms must be a multiple of dt={events.dt:g} ms that divides the recorded "
            f"{total * events.dt:g} ms"
        )
    windows, n = total // steps, math.prod(events.shape)
    cell = (events.steps - events.start).div(steps, rounding_mode="floor") * n + events.neurons
    return torch.bincount(cell, minlength=windows * n).view(windows, *events.shape)


def population_rate(spikes: Events | Tensor, window: Any, dt: Any = None) -> u.Quantity:
    """Rate in each window, averaged over the last dimension of the population, in Hz: ``(windows, *batch)``.

    Args:
        spikes, dt: see `rates`.
        window: see `counts`.

    Example:
        >>> print(nd.analysis.population_rate(torch.eye(4), 2 * u.ms))
        tensor([250.0000, 250.0000]) hertz
    """
    events = Events.of(spikes, dt)
    mean = counts(events, window).to(torch.get_default_dtype()).mean(-1)
    return u.quantity(mean / (as_dt(window, "window") * 1e-3), "Hz")
