"""`spike_times`: networks of LIF neurons in continuous time, with the exact gradients of their spike times."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import check
from ..delays.delay import Delay
from ..neurons import LIF
from ..synapses import Expon
from .events_in_time import kernel
from .events_in_time import simulate as simulate_spikes


def spike_times(net: nn.Module, times: Any, until: Any) -> Tensor:
    r"""The spike times of a feed-forward network, exact in time and in their gradients, as those of EventProp.

    The network is an ``nn.Sequential`` of `nn.Linear` without bias, `Expon` and `LIF`, once or several times in this
    order, each of the parts with a `Delay` before it if wanted; the parameters are theirs, and dt has no effect.
    Between events $\tau_s \dot g = -g$ and $\tau \dot V = V_{rest} - V + R g$ are solved in closed form; a spike is
    where V crosses V_th from below. With the spikes of input i at $t_i$ and those of a neuron at $t_k$

    $V(t) = V_{rest} + \sum_i w_i\,\epsilon(t - t_i) - (V_{th} - V_{reset}) \sum_{t_k < t} e^{-(t - t_k)/\tau}$

    and $V(t_k) = V_{th}$ gives, as an implicit function, the derivatives of all $t_k$ by weights, input times, delays,
    tau, R and V_th. Neither a surrogate nor a time grid is involved; spikes that come or go have no gradient.

    Args:
        net: as above. V starts at V_rest.
        times: ``(*batch, inputs, K)`` in ms, or with a unit, in any order; infinity where there are fewer than
            K spikes.
        until: the end, a number in ms or a time with its unit.

    Returns:
        ``(*batch, outputs, M)`` in ms in ascending order, infinity where a neuron has fewer than M spikes.

    Cost: time for each layer O(input spikes x neurons) in the forward pass, and O(input spikes x neurons x M) time and
    memory for the gradients.

    Raises:
        TypeError: a network of other parts.
        ValueError: times of another shape or NaN, or V_th at or below V_rest or V_reset.

    Source: Wunderlich and Pehle (2021), Event-based backpropagation can compute exact gradients for spiking neural
    networks, Scientific Reports 11; delays: Mészáros, Knight and Nowotny (2025), Efficient event-based delay learning
    in spiking neural networks, Nature Communications 16.

    Example:
        >>> linear = torch.nn.Linear(3, 2, bias=False)
        >>> net = torch.nn.Sequential(linear, nd.Expon(2, tau=5 * u.ms), nd.LIF(2, tau=10 * u.ms))
        >>> _ = torch.nn.init.constant_(linear.weight, 0.4)
        >>> first = nd.spike_times(net, torch.tensor([[1.0], [2.0], [4.0]]), until=50.0)[:, 0]
        >>> first.sum().backward()
        >>> linear.weight.grad.shape
        torch.Size([2, 3])
    """
    times = torch.as_tensor(times.to("ms").magnitude if u.is_quantity(times) else times)
    times = times if times.is_floating_point() else times.to(torch.get_default_dtype())
    if bool((times.isnan() | times.isneginf()).any()):
        raise ValueError("spike_times: times holds NaN or -inf; a spike that does not come is torch.inf")
    time = until if u.is_quantity(until) else u.quantity(until, "ms")
    end = float(check(time, u.canonical_unit("ms"), (), "spike_times: until", None, torch.float64))
    parts = list(net) if isinstance(net, nn.Sequential) else [net]
    while parts:
        while isinstance(parts[0], Delay):
            times = times + parts.pop(0).delay.unsqueeze(-1)  # type: ignore[operator]
        if len(parts) < 3 or not _is_layer(*parts[:3]):
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise TypeError(
                "spike_times: wanted an nn.Sequential of nn.Linear(bias=False), nd.Expon, nd.LIF, each time in this "
                f"order and nd.Delay before it if wanted; got {kinds}"
            )
        times = _layer(parts[0], parts[1], parts[2], times, end)  # type: ignore[arg-type]
        del parts[:3]
    return times


def _is_layer(linear: nn.Module, synapse: nn.Module, neuron: nn.Module) -> bool:
    return type(linear) is nn.Linear and linear.bias is None and type(synapse) is Expon and type(neuron) is LIF


def _layer(linear: nn.Linear, synapse: Expon, neuron: LIF, times: Tensor, until: float) -> Tensor:
    if times.dim() < 2 or times.shape[-2] != linear.in_features:
        raise ValueError(f"spike_times: times has shape {tuple(times.shape)}, wanted (*batch, {linear.in_features}, K)")
    height, jump = neuron.V_th - neuron.V_rest, neuron.V_th - neuron.V_reset
    if not bool((height > 0).all() and (jump > 0).all()):
        raise ValueError(f"spike_times: {neuron._label()} must have V_th above V_rest and V_reset")
    given = (neuron.tau, synapse.tau, neuron.R, height, jump)
    tau, tau_s, R, height, jump = (value.expand(linear.out_features) for value in given)
    flat = times.flatten(0, -3) if times.dim() > 2 else times[None]
    with torch.no_grad():
        found = simulate_spikes(linear.weight, flat, tau, tau_s, R, height, jump, until)
    if torch.is_grad_enabled():
        found = _attached(found, linear.weight, flat, tau, tau_s, R, height, jump)
    return found.reshape(*times.shape[:-2], *found.shape[1:])


def _attached(
    found: Tensor, weight: Tensor, times: Tensor, tau: Tensor, tau_s: Tensor, R: Tensor, height: Tensor, jump: Tensor
) -> Tensor:
    r"""The same spike times with a gradient: $dt = -A^{-1} dF$ for $F_k = V(t_k) - V_{th}$, $A = \partial F/dt$."""
    real = found.isfinite()
    t = torch.where(real, found, 0.0).detach()
    p = [value[:, None] for value in (tau, tau_s, R, height, jump)]  # (N, 1)
    lag = t[..., None, None] - times[:, None, None]  # batch, N, M, inputs, K
    late = lag > 0  # also where an input never comes
    lag = torch.where(late, lag, 0.0)
    wide = [value[..., None, None] for value in p]
    gains = kernel(lag, *wide[:3]).sum(-1)
    since = t[..., :, None] - t[..., None, :]
    earlier = torch.ones_like(since, dtype=torch.bool).tril(-1) & real[..., None, :]
    fades = torch.where(earlier, torch.exp(-torch.where(earlier, since, 0.0) / p[0][..., None]), 0.0)
    F = torch.einsum("bnmi,ni->bnm", gains, weight) - p[4] * fades.sum(-1) - p[3]
    with torch.no_grad():
        g = torch.einsum("bnmi,ni->bnm", (torch.exp(-lag / wide[1]) * late).sum(-1), weight)
        slope = (p[2] * g - p[3] - F) / p[0]
        A = torch.diag_embed(torch.where(real, slope, 1.0)) - (p[4] / p[0])[..., None] * fades * real[..., None]
    change = torch.linalg.solve_triangular(A, torch.where(real, F - F.detach(), 0.0)[..., None], upper=False)[..., 0]
    return torch.where(real, t - change, math.inf)
