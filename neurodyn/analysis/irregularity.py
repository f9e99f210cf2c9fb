"""How irregular spikes are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..record import Events
from .rates import counts


def intervals(spikes: Events | Tensor, dt: Any = None) -> tuple[u.Quantity, Tensor]:
    """Intervals between successive spikes of a neuron: their lengths in ms, and the neurons, counted through the shape.

    Args:
        spikes: `Events`, or a tensor ``(T, *batch, *size)``.
        dt: time step of a tensor; `get_default_dt()` if not given.

    Example:
        >>> print(nd.analysis.intervals(torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0]]))[0])
        tensor([3., 1.], dtype=torch.float64) millisecond
    """
    events = Events.of(spikes, dt)
    order = events.neurons.argsort(stable=True)
    neurons, steps = events.neurons[order], events.steps[order]
    same = neurons[1:] == neurons[:-1]
    return u.quantity(steps.diff()[same].double() * events.dt, "ms"), neurons[1:][same]


def isi_cv(spikes: Events | Tensor, dt: Any = None) -> Tensor:
    """Coefficient of variation of the intervals of each neuron, ``(*batch, *size)``: 0 regular, 1 like Poisson.

    The standard deviation is that of the intervals themselves (divided by n). NaN where there are fewer than two.

    Args:
        spikes, dt: see `intervals`.

    Example:
        >>> nd.analysis.isi_cv(torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    events = Events.of(spikes, dt)
    lengths, neurons = intervals(events)
    n = math.prod(events.shape)
    number = torch.bincount(neurons, minlength=n)
    mean = torch.bincount(neurons, lengths.magnitude, n) / number
    deviation = lengths.magnitude - mean[neurons]
    cv = (torch.bincount(neurons, deviation**2, n) / number).sqrt() / mean
    return cv.where(number >= 2, torch.nan).view(events.shape)


def fano_factor(spikes: Events | Tensor, window: Any, dt: Any = None) -> Tensor:
    """Variance of the spike count over its mean, ``(*batch, *size)``, from windows that follow each other.

    1 for a Poisson process; the variance is divided by the number of windows. NaN for a neuron without spikes.

    Args:
        spikes, dt: see `intervals`.
        window: see `counts`.

    Example:
        >>> nd.analysis.fano_factor(torch.tensor([[1.0], [1.0], [0.0], [0.0]]), 2 * u.ms)
        tensor([1.], dtype=torch.float64)
    """
    number = counts(spikes, window, dt).double()
    return number.var(0, correction=0) / number.mean(0)
