"""What precedes a spike."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt
from ..record import Events, Trace


def spike_triggered_average(
    stimulus: Trace | Tensor, spikes: Events | Tensor, window: Any, dt: Any = None
) -> tuple[u.Quantity, Any]:
    """Mean of the stimulus in the time before and at the spikes of each neuron.

    Spikes that come before a whole window has passed are left out; NaN for a neuron without any other.

    Args:
        stimulus: one value for each step, ``(T,)``: a tensor, or a `Trace` from the same step on as the spikes.
        spikes: `Events`, or a tensor ``(T, *batch, *size)``.
        window: length of the window, a quantity.
        dt: time step of tensors; `get_default_dt()` if not given.

    Returns:
        Times relative to the spike, the last one 0, and the means ``(lags, *batch, *size)``, a quantity for a `Trace`.

    Example:
        >>> stimulus, spikes = torch.arange(6.0), torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])
        >>> times, mean = nd.analysis.spike_triggered_average(stimulus, spikes[:, None], 2 * u.ms)
        >>> mean[:, 0], times.magnitude
        (tensor([2., 3.]), tensor([-1.,  0.], dtype=torch.float64))
    """
    events = Events.of(spikes, dt)
    values = stimulus.values if isinstance(stimulus, Trace) else stimulus
    start = stimulus.start if isinstance(stimulus, Trace) else events.start
    if (start, start + len(values)) != (events.start, events.stop) or values.dim() != 1:
        raise ValueError(
            f"spike_triggered_average: the stimulus must be one number for each of the {events.stop - events.start} "
            f"steps of the spikes, got shape {tuple(values.shape)} from step {start}"
        )
    lags = math.floor(as_dt(window, "window") / events.dt + 1e-6)
    if not 1 <= lags <= len(values):
        raise ValueError(f"spike_triggered_average: the window must hold 1 to {len(values)} steps, got {lags}")
    used = events.steps - events.start >= lags - 1
    steps, neurons = events.steps[used] - events.start, events.neurons[used]
    n = math.prod(events.shape)
    number = torch.bincount(neurons, minlength=n)
    shifts = range(1 - lags, 1)
    sums = torch.stack([values.new_zeros(n).index_add(0, neurons, values[steps + shift]) for shift in shifts])
    mean: Any = (sums / number).view(lags, *events.shape)
    times = u.quantity(torch.arange(1 - lags, 1, dtype=torch.float64) * events.dt, "ms")
    return times, u.quantity(mean, stimulus.unit) if isinstance(stimulus, Trace) else mean
