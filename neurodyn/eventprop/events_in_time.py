"""LIF neurons with exponential synapses in continuous time: from event to event, in closed form."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.solve import phi
from . import spikes as compiled

_NEWTON = 60  # steps at most; the convergence is quadratic but where a potential only just reaches the threshold


def kernel(s: Tensor, tau: Tensor, tau_s: Tensor, R: Tensor) -> Tensor:
    r"""The potential $\frac{R\tau_s}{\tau_s-\tau}(e^{-s/\tau_s}-e^{-s/\tau})$ at s >= 0 after a jump of g by 1."""
    z = (s * (1 / tau - 1 / tau_s)).abs()
    return R * s / tau * torch.exp(-s / torch.maximum(tau, tau_s)) * phi(-z)


class Neurons(NamedTuple):
    """Time constants, R, and how far the threshold is above rest and above the reset, one for each neuron."""

    tau: Tensor
    tau_s: Tensor
    R: Tensor
    height: Tensor
    jump: Tensor


class Spikes(NamedTuple):
    """What comes through a connection: spikes at `times`, each of them `size` spikes or one, ``(batch, inputs, K)``."""

    weight: Tensor  # (neurons, inputs)
    delay: Tensor | None  # (neurons, inputs)
    times: Tensor
    size: Tensor | None = None

    def sizes(self) -> Tensor:
        """One for each of the times."""
        return torch.ones_like(self.times) if self.size is None else self.size

    def arrivals(self) -> Tensor:
        """When each of them arrives at each neuron, ``(batch, 1 or neurons, inputs, K)``."""
        times = self.times.unsqueeze(1)
        return times if self.delay is None else times + self.delay.unsqueeze(-1)


def simulate(given: Spikes, neurons: Neurons, until: float, limit: int) -> Tensor | None:
    """The spike times (batch, N, M), from one input spike to the next, and between them from spike to spike.

    None if a neuron spikes more often than `limit`.
    """
    weight, K = given.weight, given.times.shape[-1]
    at, order = given.arrivals().flatten(2).sort(-1)
    count = int((at <= until).sum(-1).max()) if at.numel() else 0  # those that come in time
    at, order = at[..., :count], order[..., :count]
    source, size = (
        order // K if K else order,
        given.sizes().flatten(1).unsqueeze(1).expand_as(given.arrivals().flatten(2)),
    )
    size = size.gather(-1, order)
    if function := compiled.function_for("spikes", weight):
        values = torch.stack([value.to(weight.dtype) for value in neurons])
        at, size = at.to(weight.dtype), size.to(weight.dtype)
        return compiled.simulate(function, weight, at, source, size, values, until, limit)
    tau, tau_s, R, height, jump = neurons
    V = g = torch.zeros(len(at), len(weight), dtype=weight.dtype, device=weight.device)
    now, spikes, fires = torch.zeros_like(V), [], torch.zeros_like(V, dtype=torch.int64)
    places = torch.arange(len(weight), device=weight.device)
    for k in range(count + 1):
        end = (at[..., k].clamp(max=until) if k < count else torch.full_like(now, until)).expand_as(V)
        left = end - now
        while True:
            s = _crossing(V, g, left, tau, tau_s, R, height)
            fired = s.isfinite()
            if not bool(fired.any()):
                break
            spikes.append(torch.where(fired, now + s, math.inf))
            fires = fires + fired
            if len(spikes) > limit and bool((fires > limit).any()):
                return None
            s = torch.where(fired, s, 0.0)
            V = torch.where(fired, height - jump, V)
            g, now, left = g * torch.exp(-s / tau_s), now + s, left - s
        V, g = V * torch.exp(-left / tau) + g * kernel(left, tau, tau_s, R), g * torch.exp(-left / tau_s)
        if k < count:
            g = g + weight[places, source[..., k].expand_as(V)] * (size[..., k] * (at[..., k] <= until))
        now = end
    return _sorted(spikes, V)


def recurrent(given: Spikes, back: Spikes, neurons: Neurons, until: float, limit: int) -> Tensor | None:
    """The same for neurons that also drive each other through `back`, whose times are the delays there.

    None if a neuron spikes more often than `limit`.
    """
    weight = torch.cat((given.weight, back.weight), 1)
    delay = torch.zeros_like(given.weight) if given.delay is None else given.delay
    lag = back.arrivals()[0, ..., 0].expand_as(back.weight)
    if function := compiled.function_for("recurrent", weight):
        values = torch.stack([value.to(weight.dtype) for value in neurons])
        delay, times, size = [x.to(weight.dtype) for x in (torch.cat((delay, lag), 1), given.times, given.sizes())]
        return compiled.recurrent(function, weight, delay, times, size, values, until, limit)
    tau, tau_s, R, height, jump = neurons
    N = len(weight)
    at = (given.times[:, None] + delay[..., None]).flatten(2)  # batch, N, arrivals
    amount = (given.sizes()[:, None] * given.weight[..., None]).flatten(2)
    at = torch.where(at <= until, at, math.inf)
    V = g = torch.zeros(len(at), N, dtype=weight.dtype, device=weight.device)
    now, spikes = torch.zeros_like(V[:, :1]), []
    while bool((now < until).any()):
        s, n = _crossing(V, g, (until - now).expand_as(V), tau, tau_s, R, height).min(1, keepdim=True)
        arrival = at.flatten(1).amin(1, keepdim=True) if at.numel() else torch.full_like(now, math.inf)
        fires = s.isfinite() & (now + s <= arrival)
        fired = fires & (n == torch.arange(N, device=n.device))
        end = torch.where(fires, now + s, arrival.clamp(max=until))
        left = end - now
        V, g = V * torch.exp(-left / tau) + g * kernel(left, tau, tau_s, R), g * torch.exp(-left / tau_s)
        V = torch.where(fired, height - jump, V)
        here = (at <= end[..., None]) & ~fires[..., None]
        g, at = g + (amount * here).sum(-1), torch.where(here, math.inf, at)
        if bool(fires.any()):
            spikes.append(torch.where(fired, end, math.inf))
            at = torch.cat((at, torch.where(fires, end + lag.T[n[:, 0]], math.inf)[..., None]), -1)
            amount = torch.cat((amount, back.weight.T[n[:, 0]][..., None]), -1)
            if len(spikes) > limit * N:
                return None
        now = end
    return _sorted(spikes, V)


def _sorted(spikes: list[Tensor], V: Tensor) -> Tensor:
    """The spikes of each neuron (batch, N, M) from all moments at which there is one."""
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
