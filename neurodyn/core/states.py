"""The states of a whole network: get, set, reset and detach them, and call the network as a pure function of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.lazy import LazyModuleMixin

from ..tools.errors import NotCompilable
from .dynamics import Dynamics, UnsetState, exported_as_pure
from .fields import name_of

#: Where a module holds a tensor: in which dict, and under which name.
Slot = tuple[dict[str, Any], str]


def named_modules(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """`net` and all modules inside, with their qualified names; that of `net` itself is empty."""
    return list(net.named_modules()) if net._modules else [("", net)]


def named_dynamics(net: nn.Module) -> list[tuple[str, Dynamics]]:
    """Every `Dynamics` among them."""
    if not net._modules:
        return [("", net)] if isinstance(net, Dynamics) else []
    return [(name, module) for name, module in named_modules(net) if isinstance(module, Dynamics)]


def places(net: nn.Module) -> list[tuple[str, Dynamics, str]]:
    """For each state of `net` its qualified name, its module, and its name there."""
    return [(f"{path}.{s}" if path else s, module, s) for path, module in named_dynamics(net) for s in module.states]


def get_states(net: nn.Module) -> dict[str, Tensor]:
    """All states of `net` by qualified name, such as ``{"encoder.lif.V": tensor}``.

    Raises:
        UnsetState: a layer has no state yet.
    """
    settle(net)
    found = {}
    for key, module, name in places(net):
        value = module._buffers[name]
        if value is None:
            raise UnsetState(f"{module._label()}: {key} has no value yet; call nd.reset_states(net, *batch) first")
        found[key] = value
    return found


def state_places(net: nn.Module) -> list[Slot]:
    """For each state of `net` that has a value the dict that holds it, and its name there."""
    return [(module._buffers, name) for _, module, name in places(net) if module._buffers[name] is not None]


def settle(net: nn.Module) -> None:
    """Let every module derive what follows from values that may have been edited in place, such as delays."""
    for _, module in named_modules(net):
        if hasattr(type(module), "settle"):
            module.settle()  # type: ignore[operator]


def uninitialized(net: nn.Module) -> str | None:
    """The class of a module inside whose first call makes its parameters, such as LazyLinear; None without one."""
    for _, module in named_modules(net):
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]
            return type(module).__name__
    return None


def check_called(net: nn.Module, caller: str) -> None:
    """Refuse a network with a layer that has no parameters before its first call.

    Raises:
        ValueError: with the name of the layer.
    """
    if lazy := uninitialized(net):
        raise ValueError(f"{caller}: {lazy} gets its parameters in its first call; call the network once before")


def check_initialized(net: nn.Module) -> None:
    """Refuse to compile a module whose first call makes parameters: what is traced would make them.

    Raises:
        NotCompilable: with the name of the module inside that does so.
    """
    if lazy := uninitialized(net):
        raise NotCompilable(f"its first call makes the parameters of {lazy}; later ones are compiled")


def held_states(net: nn.Module) -> dict[str, Tensor]:
    """The states of `net` that have values, by qualified name."""
    found = {key: module._buffers[name] for key, module, name in places(net)}
    return {key: value for key, value in found.items() if value is not None}


def has_batch(layer: Dynamics) -> bool:
    """Whether any state of a layer has the batch in front."""
    return not all(field.shared for field in layer.states.values())


def batched(net: nn.Module) -> list[bool]:
    """For each of `held_states` whether it has the batch in front."""
    return [not m.states[name].shared for _, m, name in places(net) if m._buffers[name] is not None]


def constants(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of `net` that are not states."""
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    seen: set[int] = set()  # a shared tensor is found once, under its first name
    for path, module in named_modules(net):
        prefix = f"{path}." if path else ""
        states = module.states if isinstance(module, Dynamics) else ()
        for found, tensors in ((parameters, module._parameters), (buffers, module._buffers)):
            for name, value in dict.items(tensors):
                if value is not None and name not in states and id(value) not in seen:
                    seen.add(id(value))
                    found[prefix + name] = value
    return parameters | buffers


def set_states(net: nn.Module, states: Mapping[str, Tensor]) -> None:
    """Set states of `net` by qualified name; those not named keep their value.

    Raises:
        KeyError: a name that `net` has no state for.
        ValueError: a value whose trailing shape is not the size of its population, or of a shared state another one.
    """
    settle(net)
    known = {key: (module, name) for key, module, name in places(net)}
    for key, value in states.items():
        if key not in known:
            raise KeyError(f"set_states: no state {key!r}; the network has {', '.join(known) or 'none'}")
        module, name = known[key]
        shape, size = tuple(value.shape), module.state_size(name)
        if shape[len(shape) - len(size) :] != size or len(shape) < len(size):
            raise ValueError(f"set_states: {key} of {module._label()} must end in {size}, got shape {shape}")
        if module.states[name].shared and shape != size:
            raise ValueError(
                f"set_states: {key} of {module._label()} is shared by the batch, so its shape must be "
                f"{size}, got {shape}"
            )
    given: list[Tensor] = []
    for key, value in states.items():
        module, name = known[key]
        twice = any(value is other for other in given)  # torch.func takes one tensor at two places for tied weights
        module._buffers[name] = value.view_as(value) if twice else value
        given.append(value)


def hold_states(net: nn.Module) -> Callable[[], None]:
    """A call that gives the states of `net` the values back that they have now, None where they are not set."""
    held = [(module, name, module._buffers[name]) for _, module, name in places(net)]

    def restore() -> None:
        for module, name, value in held:
            module._buffers[name] = value

    return restore


@contextlib.contextmanager
def same_tensors(net: nn.Module) -> Iterator[None]:
    """Afterwards every module has the tensors of before, also one with two names, where functional_call loses them."""
    held = [(tensors, dict(tensors)) for m in net.modules() for tensors in (m._parameters, m._buffers)]
    try:
        yield
    finally:
        for tensors, before in held:
            tensors.update(before)  # type: ignore[arg-type]


def layouts(net: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Of each state that has a value the size of its layer, and its own shape and dtype."""
    found = {key: (module, module._buffers[name]) for key, module, name in places(net)}
    return {k: (m.size, tuple(value.shape), value.dtype) for k, (m, value) in found.items() if value is not None}


def reset_states(net: nn.Module, *batch: int) -> None:
    """Set every state of `net` to its initial value for a batch of shape `batch`."""
    check_dt(net)
    for _, module in named_dynamics(net):
        module.reset_state(*batch)


def detach_states(net: nn.Module) -> None:
    """Cut every state of `net` from its graph, as between two windows of truncated backpropagation."""
    for _, module in named_dynamics(net):
        module.detach_state()


def check_dt(net: nn.Module) -> float:
    """The one time step of `net`, in ms.

    Raises:
        ValueError: two layers with different time steps.
    """
    found = named_dynamics(net)
    if not found:
        raise ValueError(f"{type(net).__name__} contains no neurodyn layer, so it has no time step")
    first = found[0]
    for other in found:
        if other[1].dt != first[1].dt:
            one, two = (name_of(module, path) for path, module in (first, other))
            raise ValueError(
                f"one network, two time steps: {one} has dt={first[1].dt:g} ms, {two} dt={other[1].dt:g} ms; "
                "build both with the same dt=, or inside `with nd.default_dt(...)`"
            )
    return first[1].dt


def pure(net: nn.Module, tensors: Mapping[str, Tensor], *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
    """Call `net` with its parameters and states taken from `tensors`; returns the output and the new states.

    `net` itself is left as it was.
    """
    swapped, held = dict(tensors), [(place, name, place[name]) for place, name in map(partial(_slot, net), tensors)]
    try:
        with exported_as_pure() if torch.compiler.is_exporting() else contextlib.nullcontext():
            output = functional_call(net, swapped, inputs)
    finally:  # functional_call does not where a module has two names
        for place, name, value in held:
            place[name] = value
    return output, {key: swapped[key] for key, _, _ in places(net) if key in swapped}


def _slot(net: nn.Module, qualified: str) -> Slot:
    """Where a parameter or buffer lies."""
    path, _, name = qualified.rpartition(".")
    module = net.get_submodule(path)
    return (module._parameters if name in module._parameters else module._buffers), name
