"""Parameters that neurons and synapses have by themselves, one value for each neuron or one for all."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.states import hold_states, named_dynamics
from .local import Key


class Own(NamedTuple):
    """A trained parameter of a neuron or synapse, by the name that the module has for it."""

    module: Dynamics
    name: str

    @property
    def parameter(self) -> Tensor:
        """What the module has now."""
        return self.module._parameters[self.name]  # type: ignore[return-value]


def own_parameters(net: nn.Module) -> dict[str, Own]:
    """Trained parameters that a neuron or synapse has by itself, one value for each neuron or for all."""
    found: dict[str, Own] = {}
    for path, module in named_dynamics(net):
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or any(parameter is own.parameter for own in found.values()):
                continue
            full = f"{path}.{name}" if path else name
            fits = zip(parameter.shape[::-1], module.size[::-1], strict=False)
            if name.removeprefix("raw_") in module.params and all(n in (1, m) for n, m in fits):
                found[full] = Own(module, name)
    return found


def start_slopes(net: nn.Module, own: dict[str, Own]) -> dict[tuple[Key, Key], Tensor]:
    """The derivatives of initial states by parameters, by the keys of both: 1 for a learned initial state."""
    found: dict[tuple[Key, Key], Tensor] = {}
    for path, module in named_dynamics(net):
        for full, (owner, name) in own.items():
            if owner is not module:
                continue
            parameter = owner._parameters[name]
            for state, field in module.states.items():
                with torch.enable_grad():
                    leaf = expanded(Own(module, name))
                    module._parameters[name] = leaf  # type: ignore[assignment]
                    try:
                        value = getattr(module, field.initializer)
                    finally:
                        module._parameters[name] = parameter
                    if value.requires_grad and value.shape == leaf.shape:
                        (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
                        if slope is not None:
                            found[("own", full), ("state", f"{path}.{state}".removeprefix("."))] = slope
    return found


def expanded(own: Own) -> Tensor:
    """One value of a parameter for each sample and neuron, so that each has a derivative of its own."""
    shape = (*own.module.batch, *own.module.size)
    return own.parameter.detach().expand(shape).clone().requires_grad_()


def start_unset(net: nn.Module, inputs: Any) -> bool:
    """Set states that are not set, for the batch of the input of their layer; whether there were any.

    A layer without a size that has been reset for the beginning of that batch gets the rest.
    """
    layers = [module for _, module in named_dynamics(net)]
    unset = [module for module in layers if not module.is_set]
    open_ = [module for module in layers if module.is_set and not module.size]
    if not unset and not open_:
        return False
    restore = hold_states(net)
    with torch.no_grad():
        net(*inputs)
    batches = [(module, module.batch) for module in (*unset, *open_) if module.is_set]  # one not called has none
    restore()
    for module, batch in batches:
        if not module.is_set:
            module.reset_state(*batch)
        elif module.batch != batch:
            module.widen_state(*batch)
    return bool(unset)
