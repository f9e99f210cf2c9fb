"""LIF neurons with exponential synapses in continuous time: from event to event, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.solve import phi
from . import spikes as compiled

_NEWTON = 60  # steps at most; the convergence is quadratic but where a potential only just reaches the threshold


def kernel(s: Tensor, tau: Tensor, tau_s: Tensor, R: Tensor) -> Tensor:
    r"""The potential $\frac{R\tau_s}{\tau_s-\tau}(e^{-s/\tau_s}-e^{-s/\tau})$ at s >= 0 after a jump of g by 1."""
    z = (s * (1 / tau - 1 / tau_s)).abs()
    return R * s / tau * torch.exp(-s / torch.maximum(tau, tau_s)) * phi(-z)


def simulate(
    weight: Tensor, times: Tensor, tau: Tensor, tau_s: Tensor, R: Tensor, height: Tensor, jump: Tensor, until: float
) -> Tensor:
    """The spike times (batch, N, M), from one input spike to the next, and between them from spike to spike."""
    batch, _, K = times.shape
    given, order = times.flatten(1).sort(1)
    count = int((given <= until).sum(1).max()) if len(given) else 0
    given, order = given[:, :count], order[:, :count]  # those that come in time
    if function := compiled.function_for(weight):
        values = torch.stack([value.to(weight.dtype) for value in (tau, tau_s, R, height, jump)])
        return compiled.simulate(function, weight, given.to(weight.dtype), order // K, values, until)
    at = given.clamp(max=until)
    V = g = torch.zeros(batch, len(weight), dtype=weight.dtype, device=weight.device)
    now, spikes = torch.zeros_like(V[:, :1]), []
    for k in range(at.shape[1] + 1):
        end = at[:, k, None] if k < at.shape[1] else torch.full_like(now, until)
        start, left = now.expand_as(V), end - now
        while True:
            s = _crossing(V, g, left.expand_as(V), tau, tau_s, R, height)
            fired = s.isfinite()
            if not bool(fired.any()):
                break
            spikes.append(torch.where(fired, start + s, math.inf))
            s = torch.where(fired, s, 0.0)
            V = torch.where(fired, height - jump, V)
            g, start, left = g * torch.exp(-s / tau_s), start + s, left - s
        V, g = V * torch.exp(-left / tau) + g * kernel(left, tau, tau_s, R), g * torch.exp(-left / tau_s)
        if k < at.shape[1]:
            g = g + weight.T[order[:, k] // K] * (given[:, k, None] <= until).to(g.dtype)
        now = end
    if not spikes:
        return torch.full((*V.shape, 1), math.inf, dtype=V.dtype, device=V.device)
    found = torch.stack(spikes, -1).sort(-1).values
    return found[..., : max(1, int(found.isfinite().sum(-1).max()))]


def _crossing(V: Tensor, g: Tensor, left: Tensor, tau: Tensor, tau_s: Tensor, R: Tensor, height: Tensor) -> Tensor:
    """When V reaches the threshold within the time that is left, else infinity.

    V rises to one peak, and is concave up to there, so that Newton's method from the left comes closer from the left.
    """
    rising = (R * g > V) & (V < height)
    rate = 1 / tau - 1 / tau_s
    drive = torch.where(rising, R * g, 1.0)
    # At the peak dV/dt = 0, that is R g e^(-s/tau_s) = V(s).
    share = 1 - torch.where(rising, V, 0.0) / drive
    at_peak = torch.log1p((share * rate * tau * tau_s / tau).clamp(min=-1)) / rate
    peak = torch.where(rate.abs() * tau > 1e-9, at_peak, tau * share)
    end = torch.minimum(peak.nan_to_num(nan=0.0), left).clamp(min=0)

    def potential(s: Tensor) -> Tensor:
        return V * torch.exp(-s / tau) + g * kernel(s, tau, tau_s, R)

    reaches = rising & (potential(end) >= height)
    s = torch.zeros_like(V)
    if bool(reaches.any()):
        for _ in range(_NEWTON):
            value = potential(s)
            slope = (R * g * torch.exp(-s / tau_s) - value) / tau
            step = torch.where(reaches & (slope > 0), (height - value) / slope, 0.0)
            s = torch.minimum((s + step).clamp(min=0), end)
            if bool(((height - value).abs() <= 8 * torch.finfo(s.dtype).eps * height)[reaches].all()):
                break
    return torch.where(reaches, s, math.inf)
