"""The spiking layers of a network and the weights in front of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.current import SynapticOutput
from ..core.dynamics import Dynamics
from ..inspection.activity import has_weights, sources
from ..networks.recurrent import Recurrent
from ..neurons.base import Firing, Spiking

#: Modules whose weights are drawn anew; others keep their pattern of weights.
DRAWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass
class Layer:
    """A spiking layer and where its weights are."""

    name: str  # of the neuron
    neuron: Spiking
    source: str  # name of the module with its weights
    recurrent: Recurrent | None = None
    feedback: str = ""  # name of the module with the weights of the feedback


def find_layers(net: nn.Module) -> list[Layer]:
    """The spiking layers of `net`, from the input on.

    Raises:
        TypeError: neurons that make the upswing of a spike themselves.
        ValueError: no layer, a layer without weights of its own, a feedback with none or several.
    """
    neurons = {name: module for name, module in net.named_modules() if isinstance(module, Spiking)}
    for name, module in net.named_modules():
        if isinstance(module, Firing) and name not in neurons:
            raise TypeError(
                f"fluctuation_driven_: {name!r} is {module._label()}, whose potential cannot be had without its "
                "spikes; use nd.scale_weights"
            )
    if not neurons:
        raise ValueError(f"fluctuation_driven_: {type(net).__name__} has no spiking layer")
    found = [
        Layer(name, neurons[name], source)
        for name, source in sources(net, tuple(neurons), "fluctuation_driven_").items()
    ]
    for path, module in net.named_modules():
        if isinstance(module, Recurrent) and (layer := next((x for x in found if x.neuron is module.cell), None)):
            prefix = f"{path}.feedback" if path else "feedback"
            parts = module.feedback.named_modules()
            inside = [f"{prefix}.{name}".rstrip(".") for name, part in parts if has_weights(part)]
            if len(inside) != 1:
                raise ValueError(f"fluctuation_driven_: the feedback of {path!r} must have one module with weights")
            layer.recurrent, layer.feedback = module, inside[0]
    return found


def draw(net: nn.Module, name: str, std: float | None, generator: torch.Generator | None) -> None:
    """New weights with this standard deviation, or of variance 1 / fan-in; where they have a pattern, none."""
    module: Any = net.get_submodule(name)
    if "weight" not in module._parameters and "weight" not in module._buffers:
        raise ValueError(f"fluctuation_driven_: the weight of {name!r} is computed from others; set it before that")
    if not isinstance(module, DRAWN):
        if std is not None:
            raise ValueError(
                f"fluctuation_driven_: the weights of {name!r}, a {type(module).__name__}, are not drawn anew, so "
                "that the potential has to be measured: pass xs instead of rate"
            )
        return
    module.weight.normal_(0, module.weight[0].numel() ** -0.5 if std is None else std, generator=generator)
    if module.bias is not None:
        module.bias.zero_()


def check_adjacent(net: nn.Module, layer: Layer) -> None:
    """Refuse synapses, delays, ... between the weights and the neuron."""
    names = [name for name, _ in net.named_modules()]
    for name in names[names.index(layer.source) + 1 : names.index(layer.name)]:
        part = net.get_submodule(name)
        if isinstance(part, (Dynamics, SynapticOutput)) and part is not layer.recurrent:
            raise ValueError(
                f"fluctuation_driven_: {name!r} lies between the weights {layer.source!r} and the neurons "
                f"{layer.name!r}, so that the potential has to be measured: pass xs instead of rate"
            )


def distance_of(layer: Layer) -> float:
    """From the potential at rest to the threshold, the mean of the neurons."""
    neuron = layer.neuron
    found = float((neuron.V_th - torch.as_tensor(getattr(neuron, "V_rest", 0.0))).mean())
    if found <= 0:
        raise ValueError(
            f"fluctuation_driven_: {layer.name!r} rests {-found:g} mV above its threshold, so that it fires without "
            "inputs; give it a V_th above V_rest"
        )
    return found


@contextlib.contextmanager
def silent(neuron: Spiking) -> Iterator[None]:
    """A neuron that does not fire."""
    neuron.fire = torch.zeros_like  # type: ignore[method-assign]
    try:
        yield
    finally:
        del neuron.fire
