"""`spike_times`: networks of LIF neurons in continuous time, with the exact gradients of their spike times."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import check
from .layer import Layer, layers_of


def spike_times(net: nn.Module, times: Any, until: Any) -> Tensor:
    r"""The spike times of a network, exact in time and in their gradients, as those of EventProp.

    The network is an ``nn.Sequential`` of layers: a connection without bias, `Expon` and `LIF`, with a `Delay` before
    it if wanted. Connections are ``nn.Linear``, `AllToAll`, `OneToOne`, `MaskedLinear`, others with a matrix, and
    `Sparse` and its kinds, also with delays of their own. ``Recurrent(LIF, Projection(connection, synapse=Expon))``
    in place of `LIF` is a recurrent layer, whose spikes come back at once, or after the delay of the projection; both
    synapses have the same tau. A `Projection` of delay, connection and synapse is as good as its parts.

    The parameters are those of the modules, and dt has no effect. Between events $\tau_s \dot g = -g$ and
    $\tau \dot V = V_{rest} - V + R g$ are solved in closed form; a spike is where V crosses V_th from below. With the
    spikes of input i (or of the layer itself) at $t_i$ and those of a neuron at $t_k$

    $V(t) = V_{rest} + \sum_i w_i\,\epsilon(t - t_i) - (V_{th} - V_{reset}) \sum_{t_k < t} e^{-(t - t_k)/\tau}$

    and $V(t_k) = V_{th}$ gives, as an implicit function, the derivatives of all $t_k$ by weights, input times, delays,
    tau, R and V_th. Neither a surrogate nor a time grid is involved; spikes that come or go have no gradient. On a grid
    of spikes: ``nd.unroll(net, xs, gradient="eventprop")``.

    Args:
        net: as above. V starts at V_rest.
        times: ``(*batch, inputs, K)`` in ms, or with a unit, in any order; infinity where there are fewer than
            K spikes.
        until: the end, a number in ms or a time with its unit.

    Returns:
        ``(*batch, outputs, M)`` in ms in ascending order, infinity where a neuron has fewer than M spikes.

    Cost: time for each layer O(input spikes x neurons) in the forward pass, and for the gradients time and memory of
    O((input spikes + M) x neurons x M). A recurrent layer with S spikes takes O((input spikes + S) x neurons) forward,
    and S^2 memory more for the gradients.

    Raises:
        TypeError: a network of other parts, or in half precision.
        ValueError: times of another shape or NaN, sizes that do not fit, parameters that are NaN or infinite or have
            values for each sample, or V_th at or below V_rest or V_reset.
        RuntimeError: more than 10,000 spikes of a neuron, or a derivative of the gradients, which would be wrong.

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
    layers = layers_of(net, "spike_times")
    inputs, times = math.prod(layers[0].path.in_size), times.to(layers[0].neuron.V_th.dtype)
    if times.dim() < 2 or times.shape[-2] != inputs:
        raise ValueError(f"spike_times: times has shape {tuple(times.shape)}, wanted (*batch, {inputs}, K)")
    flat = times.flatten(0, -3) if times.dim() > 2 else times[None]
    found = run(layers, flat, None, end)
    return found.reshape(*times.shape[:-2], *found.shape[1:])


def run(layers: list[Layer], times: Tensor, size: Tensor | None, until: float) -> Tensor:
    """The spike times of the last layer, (batch, outputs, M)."""
    with torch.autocast(times.device.type, enabled=False):  # in which times would have three digits
        for layer in layers:
            times, size = layer.run(times, size, until), None
    return times
