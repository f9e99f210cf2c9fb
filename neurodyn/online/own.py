"""Parameters that neurons and synapses have by themselves, one value for each neuron or one for all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.states import hold_states, named_dynamics
from .local import Key


def own_parameters(net: nn.Module) -> dict[str, tuple[Dynamics, nn.Parameter]]:
    """Trained parameters that a neuron or synapse has by itself, one value for each neuron or for all."""
    found: dict[str, tuple[Dynamics, nn.Parameter]] = {}
    for path, module in named_dynamics(net):
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or any(parameter is other for _, other in found.values()):
                continue
            full = f"{path}.{name}" if path else name
            fits = zip(parameter.shape[::-1], module.size[::-1], strict=False)
            if name.removeprefix("raw_") in module.params and all(n in (1, m) for n, m in fits):
                found[full] = module, parameter
    return found


def start_slopes(net: nn.Module, own: dict[str, tuple[Dynamics, nn.Parameter]]) -> dict[tuple[Key, Key], Tensor]:
    """The derivatives of initial states by parameters, by the keys of both: 1 for a learned initial state."""
    found: dict[tuple[Key, Key], Tensor] = {}
    for path, module in named_dynamics(net):
        for full, (owner, parameter) in own.items():
            name = full.rpartition(".")[2]
            if owner is not module:
                continue
            for state, field in module.states.items():
                with torch.enable_grad():
                    leaf = expanded(module, parameter)
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


def expanded(module: Dynamics, parameter: Tensor) -> Tensor:
    """One value of a parameter for each sample and neuron, so that each has a derivative of its own."""
    shape = (*module.batch, *module.size)
    return parameter.detach().expand(shape).clone().requires_grad_()


def start_unset(net: nn.Module, inputs: Any) -> bool:
    """Set states that are not set, for the batch of the input of their layer; whether there were any."""
    unset = [module for _, module in named_dynamics(net) if not module.is_set]
    if not unset:
        return False
    restore = hold_states(net)
    with torch.no_grad():
        net(*inputs)
    batches = [(module, module.batch) for module in unset if module.is_set]  # one that is not called has none
    restore()
    for module, batch in batches:
        module.reset_state(*batch)
    return True
