"""Weights with which the potential of every layer fluctuates up to its threshold."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..inspection.whole import check_steps
from ..loop import unroll
from .computed import computed, independent
from .layers import DRAWN, Layer, distance_of, draw, find_layers, norms_in_training, silent, start_norm


@torch.no_grad()
def fluctuation_driven_(
    net: nn.Module,
    xs: Any = None,
    *,
    rate: Any = None,
    xi: float = 0.5,
    recurrent: float = 0.1,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    r"""Set the weights in front of each spiking layer so that its potential fluctuates up to the threshold.

    The potential U of a neuron that is kept from firing is to have the standard deviation
    $\sigma_U = (V_{th} - \mu_U) / \xi$ over time, batch and neurons, where $\mu_U$ is its mean, for weights of mean 0
    that at rest. Then some inputs make a neuron fire and others do
    not, in deep layers as in the first ones, and gradients neither vanish nor grow as fast.

    Weights of ``nn.Linear`` and convolutions are drawn anew, normal with mean 0, and their biases set to 0; those of
    neurodyn's connections keep their pattern and sign and are scaled. Which weights belong to a layer: see
    `scale_weights`.

    A norm between weights and neurons, as in convolution, batch norm, `LIF`, sets the scale of the current itself: its
    weight is scaled then, and its bias set to 0. It takes its statistics from the batch, as in training.

    With `xs` $\sigma_U$ is measured, layer by layer: any synapses, delays, pooling and norms may lie between. With
    `rate` there may be linear synapses (`Expon`, `DualExpon`, `Alpha`), `CUBA`, delays and batch norms. The inputs of
    the first layer are taken for independent spikes with probability p = `rate` dt in a step; for n inputs per neuron
    (fan-in), without a synapse

    $\sigma_U^2 = n \sigma_W^2 [p (1 - p) \hat\epsilon + p^2 \bar\epsilon^2]$,
    $\bar\epsilon = R$, $\hat\epsilon = R^2 (1 - d) / (1 + d)$, $d = e^{-dt/\tau}$.

    The first term, over time, is that of the source for a small p; the second is how the neurons of a layer differ.
    With a synapse $\bar\epsilon$ is the sum over the steps of the potential that a spike makes, and $\hat\epsilon$ that
    of its square. With a batch norm only the first term is left, and the weight of the norm takes the place of the sum.
    Both are taken from a run of synapses and neurons. A deeper layer gets the spikes of a thousand neurons with such
    potentials, as in a very wide network. Errors grow from layer to layer, so that `xs` is better where there are data.

    Args:
        net: a network for `unroll`.
        xs: typical inputs, ``(T, *batch, ...)``, some dozens of samples.
        rate: instead of `xs`, the rate of the network's inputs, which are spikes; a quantity.
        xi: distance from the mean potential to the threshold in standard deviations; the lower, the more spikes. The
            source recommends 1 to 3.
        recurrent: the part of the variance of U that comes from the feedback of a `Recurrent`.
        generator: for the random numbers.

    Returns:
        The root of the mean square of the weights, by name of their module.

    Raises:
        TypeError: a layer whose neurons have no potential without spikes, as `AdEx`; use `scale_weights`.
        ValueError: weights missing or computed, a norm without a weight, inputs that do not move the potential, a
            network that runs over time itself; with `rate`, parts whose effect has to be measured.

    Source: Rossbroich, Gygax and Zenke (2022), Fluctuation-driven initialization for spiking neural network training,
    Neuromorphic Computing and Engineering 2.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(20, 50), nd.LIF(50), torch.nn.Linear(50, 30), nd.LIF(30))
        >>> weights = nd.init.fluctuation_driven_(net, torch.randn(100, 16, 20))
        >>> list(weights)
        ['0', '2']
    """
    if (xs is None) == (rate is None):
        raise TypeError("fluctuation_driven_: give either xs, typical inputs, or rate, such as rate=20 * u.Hz")
    if not xi > 0:
        raise ValueError(f"fluctuation_driven_: xi must be positive, got {xi}")
    if not 0 <= recurrent < 1:
        raise ValueError(
            f"fluctuation_driven_: recurrent is a part of the variance, from 0 to below 1, got {recurrent}"
        )
    layers = find_layers(net)
    if xs is not None:
        check_steps(net, xs, "fluctuation_driven_")
    names = [name for layer in layers for name in (layer.source, layer.norm, layer.feedback) if name]
    weights: list[Any] = [net.get_submodule(name).weight for name in names]
    before = [(value, value.clone()) for value in (*weights, *net.parameters())]
    spikes = independent(rate, net, generator) if xs is None else torch.empty(0)
    try:
        for layer, before_it in zip(layers, [None, *layers], strict=False):
            shares = (1 - recurrent, recurrent) if layer.feedback else (1.0,)
            if xs is None:
                spikes = computed(net, layer, before_it, spikes, xi, shares, generator)
                continue
            with norms_in_training(net):
                _measured(net, xs, layer, xi, shares, generator)
    except BaseException:
        for value, old in before:
            value.copy_(old)
        raise
    return {name: float(weight.square().mean().sqrt()) for name, weight in zip(names, weights, strict=True)}


def _measured(
    net: nn.Module, xs: Any, layer: Layer, xi: float, shares: tuple[float, ...], generator: torch.Generator | None
) -> None:
    """Fit the weights of a layer to the potential that they make of `xs`."""
    draw(net, layer.source, None, generator)
    if layer.norm:
        start_norm(net, layer.norm)
    if layer.feedback:
        draw(net, layer.feedback, None, generator)
        feedback: Any = net.get_submodule(layer.feedback)
        drawn = feedback.weight.clone()
        feedback.weight.zero_()
    part = _up_to(net, layer.name)

    def recorded(module: nn.Module, xs: Any, name: str) -> Tensor:
        return unroll(module, xs, record=name, compile=False, progress=False)[1][name].values

    _fit(net, layer.scaled, layer, xi, lambda: recorded(part, xs, f"{layer.name}.V"))
    if layer.recurrent is None:
        return
    spikes = recorded(part, xs, layer.name)
    before = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])  # what the feedback gets
    loop = nn.Sequential(layer.recurrent.feedback, layer.neuron)
    feedback.weight.copy_(drawn)
    _fit(net, layer.feedback, layer, xi, lambda: recorded(loop, before, "1.V"))
    for name, share in zip((layer.scaled, layer.feedback), shares, strict=True):
        net.get_submodule(name).weight.mul_(math.sqrt(share))  # type: ignore[operator]


def _up_to(net: nn.Module, name: str) -> nn.Module:
    """The part of a row of layers that ends with the one that holds `name`; another network as it is."""
    if type(net).forward is not nn.Sequential.forward:
        return net
    rows = list(net._modules.items())
    last = next(i for i, (key, _) in enumerate(rows) if key == name.partition(".")[0])
    return nn.Sequential(OrderedDict(rows[: last + 1]))  # type: ignore[arg-type]


def _fit(net: nn.Module, name: str, layer: Layer, xi: float, potential: Callable[[], Tensor]) -> None:
    """Scale the weights of module `name` until U, as `potential` gives it, is as far from the threshold as wanted."""
    neuron, distance, weight = layer.neuron, distance_of(layer), net.get_submodule(name).weight
    drawn = isinstance(net.get_submodule(name), DRAWN) or name == layer.norm
    rest = float(neuron.V_th.mean()) - distance
    with silent(neuron):
        for _ in range(10):
            U = potential().double() - rest
            # The mean that drawn weights happen to have is part of their fluctuation; that of a pattern stays.
            reached = float(xi * U.square().mean().sqrt() if drawn else xi * U.std() + U.mean())
            if abs(reached / distance - 1) < 0.01:
                return
            if not 1e-6 < reached / distance < 1e6:
                break
            weight.mul_(distance / reached)  # type: ignore[operator]
    raise ValueError(
        f"fluctuation_driven_: with the weights of {name!r} the potential of {layer.name!r} is on average "
        f"{float(U.mean()):.3g} mV above rest, with standard deviation {float(U.std()):.3g} mV, and scaling does not "
        f"bring it {xi:g} standard deviations below the threshold; look whether its inputs are silent, and whether its "
        "weights are scaled by themselves"
    )
