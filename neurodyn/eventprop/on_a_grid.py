"""``unroll(gradient="eventprop")``: spikes of a time grid in and out, and continuous time between."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import check_dt, named_dynamics
from ..core.time_scale import TimeStepWarning
from ..loop.gradients import WAYS
from ..tools.user_warning import warn_user
from .eventprop import run
from .layer import layers_of

_NAME = 'unroll(gradient="eventprop")'


def unroll_in_time(net: nn.Module, xs: Any) -> Tensor:
    """The output spikes ``(T, *batch, *outputs)`` for input spikes ``(T, *batch, *inputs)``; see `unroll`.

    Raises:
        TypeError: a network of other parts than `spike_times` takes, or several inputs.
        ValueError: inputs of another size, without a step, or that are no numbers; and as `spike_times`.
    """
    layers = layers_of(net, _NAME)
    check_dt(net)
    if not isinstance(xs, Tensor) or xs.is_sparse:
        raise TypeError(f"{_NAME}: xs must be one tensor of spikes (T, *batch, inputs), got {type(xs).__name__}")
    dt = next(layer.dt for _, layer in named_dynamics(net))
    xs, last, inside = xs.to(layers[0].neuron.V_th.dtype), layers[-1], layers[0].path.in_size
    if xs.dim() <= len(inside) or tuple(xs.shape[-len(inside) :]) != inside:
        wanted = ", ".join(["T", "*batch", *map(str, inside)])
        raise ValueError(f"{_NAME}: xs has shape {tuple(xs.shape)}, wanted ({wanted})")
    if len(xs) == 0:
        raise ValueError(f"{_NAME}: xs has no time step, its shape is {tuple(xs.shape)}; wanted one or more")
    if not bool(xs.isfinite().all()):
        raise ValueError(f"{_NAME}: xs holds NaN or an infinity")
    T, batch = xs.shape[0], tuple(xs.shape[1 : xs.dim() - len(inside)])
    times, size = _events(xs.reshape(T, math.prod(batch), math.prod(inside)), dt)
    found = run(layers, times, size, (T - 1) * dt)
    if found.shape[-1] > 1 and bool(_together(found[..., 0], found[..., 1], dt).any()):
        warn_user(
            f"{_NAME}: a neuron of {last.label} spikes twice or more in the dt={dt:g} ms of its first spike. The "
            "output holds the number of these spikes and the sum of their times; nd.losses.first_spike_times comes "
            "out up to dt too early, with a wrong gradient. Take nd.spike_times, which gives each, or a smaller dt",
            TimeStepWarning,
        )
    return _divided(found, T, dt).reshape(T, *batch, *last.path.out_size)


def _together(one: Tensor, other: Tensor, dt: float) -> Tensor:
    """Whether two spikes come between the same two steps."""
    return other.isfinite() & ((one / dt).floor() == (other / dt).floor())


def _events(xs: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """The times (batch, inputs, K) of what is not 0, in ms, infinity where there is less, and how much it is."""
    T = len(xs)
    step = torch.arange(T, device=xs.device).view(T, 1, 1)
    K = max(1, int((xs != 0).sum(0).max())) if xs.numel() else 1
    step = torch.where(xs != 0, step, T).sort(0).values[:K]  # (K, batch, inputs)
    size = torch.where(step < T, xs.gather(0, step.clamp(max=T - 1)), 0.0)
    times = torch.where(step < T, step.to(xs.dtype) * dt, math.inf)
    return times.permute(1, 2, 0), size.permute(1, 2, 0)


def _divided(found: Tensor, T: int, dt: float) -> Tensor:
    """Spikes (T, batch, outputs), each divided between the two steps next to its time, the nearer the more."""
    place = torch.where(found.isfinite(), found / dt, 0.0)
    before = place.detach().floor().clamp(max=max(T - 2, 0))
    late = torch.where(found.isfinite(), place - before, 0.0)
    early = torch.where(found.isfinite(), 1 - late, 0.0)
    ys = found.new_zeros(*found.shape[:2], T)
    ys = ys.scatter_add(-1, before.long(), early).scatter_add(-1, (before.long() + 1).clamp(max=T - 1), late)
    return ys.permute(2, 0, 1)


WAYS["eventprop"] = unroll_in_time
