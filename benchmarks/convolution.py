"""A convolutional network in training: three times convolution, batch norm, LIF, beside SpikingJelly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from .timing import RECORDED, Comparison, Options, Work, alternate

TAU = 2.0


def neurodyn(channels: int, side: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    layers: list[nn.Module] = []
    for before in (1, channels, channels):
        layers += [
            nn.Conv2d(before, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nd.LIF((channels, side, side), tau=TAU * u.ms, **RECORDED),
        ]
    net = nn.Sequential(*layers)
    return net, lambda xs: nd.unroll(net, xs)


def spikingjelly(channels: int, side: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    layers: list[Any] = []
    for before in (1, channels, channels):
        layers += [
            layer.Conv2d(before, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.LIFNode(TAU, v_reset=None, surrogate_function=surrogate.PiecewiseQuadratic()),
        ]
    net = nn.Sequential(*layers)
    functional.set_step_mode(net, "m")

    def run(xs: Tensor) -> Tensor:
        functional.reset_net(net)
        return net(xs)

    return net, run


def training(net: nn.Module, run: Callable[[Tensor], Tensor], xs: Tensor) -> Callable[[], None]:
    """The work of one step of training."""
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        run(xs).mean().backward()
        optimizer.step()

    return step


def run(options: Options) -> list[Comparison]:
    """One step of training."""
    T, batch, side = options.size(8, 2), options.size(64, 2), options.size(28, 4)
    channels = options.size(32, 2)
    torch.manual_seed(0)
    xs = torch.randn(T, batch, 1, side, side)
    work: dict[str, Work] = {"neurodyn": training(*neurodyn(channels, side), xs)}
    if options.peers:
        try:
            work["SpikingJelly"] = training(*spikingjelly(channels, side), xs)
        except ImportError:
            work["SpikingJelly"] = "not installed, see benchmarks/peers.sh"

    plain = nn.Sequential(*(layer for layer in neurodyn(channels, side)[0] if not isinstance(layer, nd.LIF)))
    work["convolutions and norms alone"] = training(plain, lambda xs: plain(xs.flatten(0, 1)), xs)
    title = f"3 x (convolution to {channels} channels, norm, LIF), {side}x{side}, T={T}, batch {batch}, one step"
    found = alternate(title, work, options, {"SpikingJelly": 1.3})
    print(found, flush=True)
    return [found]
