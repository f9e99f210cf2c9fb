"""Fluctuation-driven weights from the parameters of the neurons and the rate of the inputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import check
from ..core.states import check_dt
from ..loop import unroll
from .layers import Layer, check_adjacent, distance_of, draw, silent

_SOURCES, _STEPS = 1000, 400  # of the spikes that stand for the inputs of a layer


def independent(rate: Any, net: nn.Module, generator: torch.Generator | None) -> Tensor:
    """Spikes of `_SOURCES` independent sources."""
    p = float(check(rate, u.canonical_unit("Hz"), (), "fluctuation_driven_: rate", None, torch.float64)) * check_dt(net)
    if not 0 < p <= 1:
        raise ValueError(f"fluctuation_driven_: rate must lie between 0 and one spike per step, got {p:g} per step")
    return (torch.rand(_STEPS, _SOURCES, generator=generator) < p).float()


def computed(
    net: nn.Module,
    layer: Layer,
    spikes: Tensor,
    xi: float,
    shares: tuple[float, ...],
    generator: torch.Generator | None,
) -> Tensor:
    """Draw the weights of a layer whose inputs are like `spikes`; returns spikes like its own."""
    check_adjacent(net, layer)
    neuron: Any = layer.neuron
    many = -(-_SOURCES // math.prod(neuron.size)), *neuron.size  # enough neurons for good statistics

    def drive(spikes: Tensor) -> tuple[Tensor, float]:
        """A current of many independent weights of total variance 1, and the factor that makes U as wanted."""
        weights = torch.randn(spikes.shape[1], math.prod(many), generator=generator) / math.sqrt(spikes.shape[1])
        I = (spikes.to(weights) @ weights).reshape(_STEPS, *many).to(neuron.V_th)
        with silent(neuron):
            U = unroll(neuron, I, record="V", compile=False, progress=False)[1]["V"].values[_STEPS // 4 :]
        if not (std := float(U.double().std())) > 0:
            raise ValueError(f"fluctuation_driven_: the inputs of {layer.name!r} are silent; take a lower xi")
        return I, distance_of(layer) / xi / std

    I, std = drive(spikes)
    own = unroll(neuron, std * I, compile=False, progress=False).reshape(_STEPS, -1).cpu()
    own = own[:, torch.randperm(own.shape[1], generator=generator)[:_SOURCES]]
    for name, share in zip((layer.source, layer.feedback), shares, strict=False):
        std = std if name == layer.source else drive(own)[1]
        module: Any = net.get_submodule(name)
        draw(net, name, std * math.sqrt(share / module.weight[0].numel()), generator)
    return own
