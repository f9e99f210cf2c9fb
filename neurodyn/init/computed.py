"""Fluctuation-driven weights from the parameters of the neurons and the rate of the inputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import check
from ..core.states import check_dt, named_dynamics
from ..delays.delay import Delay
from ..loop import unroll
from .layers import Layer, distance_of, draw, path_to, silent, start_norm

_SOURCES, _STEPS = 1000, 300  # of the spikes that stand for the inputs of a layer
_LEAST, _MOST = 100, 2000  # steps before them, in which potentials rise


def independent(rate: Any, net: nn.Module, generator: torch.Generator | None) -> Tensor:
    """Spikes of `_SOURCES` independent sources; the first steps, all but `_STEPS`, are for potentials to rise."""
    p = float(check(rate, u.canonical_unit("Hz"), (), "fluctuation_driven_: rate", None, torch.float64)) * check_dt(net)
    if not 0 < p <= 1:
        raise ValueError(f"fluctuation_driven_: rate must lie between 0 and one spike per step, got {p:g} per step")
    rises = max(_rise(module) for _, module in named_dynamics(net))
    steps = _STEPS + max(_LEAST, min(_MOST, rises))
    return (torch.rand(steps, _SOURCES, generator=generator) < p).float()


def _rise(layer: Dynamics) -> int:
    """Steps after which a layer has forgotten how it started."""
    if isinstance(layer, Delay):
        return layer.length
    names = [name for name in layer.params if name.startswith("tau")]
    return math.ceil(max([5 * float(getattr(layer, name).max()) / layer.dt for name in names], default=0))


def computed(
    net: nn.Module,
    layer: Layer,
    before: Layer | None,
    spikes: Tensor,
    xi: float,
    shares: tuple[float, ...],
    generator: torch.Generator | None,
) -> Tensor:
    """Draw the weights of a layer whose inputs are like `spikes`; returns spikes like its own."""
    neuron: Any = layer.neuron
    row = nn.Sequential(*path_to(net, layer, before), neuron)
    many = -(-_SOURCES // math.prod(neuron.size)), *neuron.size  # enough neurons for good statistics
    steps = len(spikes)

    def drive(row: nn.Sequential, spikes: Tensor, normed: bool) -> tuple[Tensor, float]:
        """A current of many independent weights of total variance 1, and the factor that makes U as wanted."""
        weights = torch.randn(spikes.shape[1], math.prod(many), generator=generator) / math.sqrt(spikes.shape[1])
        I = (spikes.to(weights) @ weights).reshape(steps, *many).to(neuron.V_th)
        if normed:  # each neuron or channel by itself, over time
            I = (I - I.mean(0)) / I.std(0).clamp(min=1e-12)
        name = f"{len(row) - 1}.V"
        with silent(neuron):
            U = unroll(row, I, record=name, compile=False, progress=False)[1][name].values[-_STEPS:]
        if not (std := float(U.double().std())) > 0:
            raise ValueError(f"fluctuation_driven_: the inputs of {layer.name!r} are silent; take a lower xi")
        return I, distance_of(layer) / xi / std

    I, std = drive(row, spikes, bool(layer.norm))
    own = unroll(row, std * I, compile=False, progress=False).reshape(steps, -1).cpu()
    own = own[:, torch.randperm(own.shape[1], generator=generator)[:_SOURCES]]
    if layer.norm:
        norm: Any = net.get_submodule(layer.norm)
        draw(net, layer.source, None, generator)
        start_norm(net, layer.norm)
        norm.weight.mul_(std * math.sqrt(shares[0]))
    else:
        _draw_with(net, layer.source, std * math.sqrt(shares[0]), generator)
    if layer.feedback:
        _draw_with(net, layer.feedback, drive(nn.Sequential(neuron), own, False)[1] * math.sqrt(shares[1]), generator)
    return own


def _draw_with(net: nn.Module, name: str, std: float, generator: torch.Generator | None) -> None:
    """Draw weights so that those of one neuron have together the variance std^2."""
    module: Any = net.get_submodule(name)
    draw(net, name, std * module.weight[0].numel() ** -0.5, generator)
