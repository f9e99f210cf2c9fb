"""The spiking layers of a network, the weights in front of them, and what lies between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.current import CUBA
from ..delays.delay import Delay
from ..inspection.activity import has_weights, sources
from ..loop import Unroll
from ..loop.layers import NORMS
from ..networks.projection import Projection
from ..networks.recurrent import Recurrent
from ..neurons.base import Firing, Spiking
from ..synapses import Alpha, DualExpon, Expon

#: Modules whose weights are drawn anew; others keep their pattern of weights.
DRAWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Norms between weights and neurons set the scale of the current, so that theirs are the weights to be scaled.
_SCALING = (*NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
#: Of these it is known what they make of a current: they are linear in it, and leave neurons apart.
_LINEAR = (Expon, DualExpon, Alpha, Delay, CUBA)
#: They leave currents and spikes as they are.
_PASSING = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.Sequential,
    Unroll,
    Projection,
    Recurrent,
)


@dataclass
class Layer:
    """A spiking layer and where its weights are."""

    name: str  # of the neuron
    neuron: Spiking
    source: str  # name of the module with its weights
    recurrent: Recurrent | None = None
    feedback: str = ""  # name of the module with the weights of the feedback
    norm: str = ""  # name of the norm between the weights and the neuron, if there is one

    @property
    def scaled(self) -> str:
        """Name of the module whose weights scale the current."""
        return self.norm or self.source


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
        Layer(name, neurons[name], source, norm=_norm(net, source, name))
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


def _between(net: nn.Module, first: str, last: str) -> list[str]:
    """The names of the modules between two others; from the first of all if `first` is empty."""
    names = [name for name, _ in net.named_modules()]
    found = names[names.index(first) + 1 if first else 0 : names.index(last)]
    return [name for name in found if not (first and name.startswith(f"{first}."))]


def _norm(net: nn.Module, source: str, name: str) -> str:
    """The name of the last norm between weights and neuron, which is to have weights of its own."""
    norms = [between for between in _between(net, source, name) if isinstance(net.get_submodule(between), _SCALING)]
    if not norms:
        return ""
    norm: Any = net.get_submodule(norms[-1])
    if getattr(norm, "weight", None) is None:
        keyword = "elementwise_affine" if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) else "affine"
        raise ValueError(
            f"fluctuation_driven_: {norms[-1]!r}, {type(norm).__name__}, sets the scale of the current of {name!r} and "
            f"has no weight that could change it; build it with {keyword}=True"
        )
    return norms[-1]


def start_norm(net: nn.Module, name: str) -> None:
    """Weight 1 and bias 0, with which the output of a norm has the variance 1 and the mean 0."""
    norm: Any = net.get_submodule(name)
    norm.weight.fill_(1.0)
    if getattr(norm, "bias", None) is not None:
        norm.bias.zero_()


def path_to(net: nn.Module, layer: Layer, before: Layer | None) -> list[nn.Module]:
    """Synapses and delays between the weights of a layer and its neurons, if their effect can be computed.

    Args:
        before: the spiking layer before.

    Raises:
        ValueError: something of which it is not known what it makes of the spikes or of the current.
    """
    found: list[nn.Module] = []
    feedback = f"{before.name.removesuffix('cell')}feedback" if before is not None and before.recurrent else " "
    for name in _between(net, "" if before is None else before.name, layer.source):
        part = net.get_submodule(name)
        in_feedback = f"{name}.".startswith(f"{feedback}.")
        if not (isinstance(part, (*_PASSING, Delay)) or in_feedback) or _is_pre(part):
            raise _not_known(net, layer, name, f"before the weights {layer.source!r}")
    for name in _between(net, layer.source, layer.name):
        part = net.get_submodule(name)
        norm = isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and not found
        linear = isinstance(part, _LINEAR) and (isinstance(part, CUBA) or part.size == layer.neuron.size)
        if not (norm or linear or isinstance(part, _PASSING)):
            raise _not_known(net, layer, name, f"between the weights {layer.source!r} and the neurons {layer.name!r}")
        found += [part] * linear
    return found


def _is_pre(part: nn.Module) -> bool:
    """Whether a projection has its synapses before its weights."""
    return isinstance(part, Projection) and part.align == "pre" and part.synapse is not None


def _not_known(net: nn.Module, layer: Layer, name: str, where: str) -> ValueError:
    return ValueError(
        f"fluctuation_driven_: {name!r}, {type(net.get_submodule(name)).__name__}, lies {where}, so that the potential "
        f"of {layer.name!r} has to be measured: pass xs, typical inputs, instead of rate"
    )


@contextlib.contextmanager
def norms_in_training(net: nn.Module) -> Iterator[None]:
    """Inside, norms take their statistics from the batch; what they know of earlier ones stays as it was."""
    norms = [module for module in net.modules() if isinstance(module, NORMS)]
    held = [(norm, norm.training, {k: v.clone() for k, v in norm._buffers.items() if v is not None}) for norm in norms]
    try:
        for norm in norms:
            norm.train()
        yield
    finally:
        for norm, training, buffers in held:
            norm.train(training)
            for name, value in buffers.items():
                norm._buffers[name].copy_(value)  # type: ignore[union-attr]


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
