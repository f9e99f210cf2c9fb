"""What a traced program depends on besides its tensors: two modules with equal fingerprints run the same code."""

from __future__ import annotations

import dataclasses
import enum
import operator
import types
from collections.abc import Hashable
from typing import Any

import pint
import torch
from torch import Tensor, nn

from ..dynamics import Dynamics
from ..states import constants, named_modules
from .opened import Opened

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, pint.Unit, enum.Enum, type)
_SKIPPED = frozenset(vars(nn.Module())) - {"training"} | {"_recipe", "_written"}

_kind = operator.attrgetter("shape", "dtype", "device", "requires_grad")
_hooks = operator.attrgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class _Same:
    """An object that is only equal to itself."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(net: nn.Module, opened: Opened) -> Hashable:
    """Types, plain attributes and tensor layouts of every module in `net`, without the sizes that are `opened`.

    And which modules and tensors are the same.
    """
    places: dict[int, int] = {}
    names = [(name, places.setdefault(id(m), len(places))) for name, m in net.named_modules(remove_duplicate=False)]
    modules = [_of_module(name, module, opened, places) for name, module in named_modules(net)]
    return tuple(names), tuple(modules)


class Snapshot:
    """How a module looks now, in little time: if it looks the same later, its fingerprint is the same.

    Attributes:
        states: for each state the buffers of its module and its name there, as in `neurodyn.states.places`.
        constants: the tensors in `neurodyn.states.constants`.
    """

    def __init__(self, net: nn.Module):
        self.objects: list[Any] = []  # compared by identity
        self.values: list[Any] = []
        self.states: list[tuple[dict[str, Any], str]] = []
        parameters: list[Tensor | None] = []
        fixed: list[Tensor | None] = []
        for path, module in named_modules(net):
            own, buffers = vars(module), module._buffers
            states = module.states if isinstance(module, Dynamics) else ()
            self.objects += (type(module), *own.values(), *module._modules.values())
            self.values += (path, any(_hooks(module)), *own, *module._parameters, len(module._parameters), *buffers)
            self.states += [(buffers, name) for name in states]
            parameters += module._parameters.values()
            fixed += [tensor for name, tensor in buffers.items() if name not in states]
        tensors = [*parameters, *fixed, *[buffers[name] for buffers, name in self.states]]
        self.values += [None if tensor is None else _kind(tensor) for tensor in tensors]
        ties = _ties(tensors)
        self.values.append(ties)
        some = [tensor for tensor in (*parameters, *fixed) if tensor is not None]
        self.constants = some if ties is None else list(constants(net).values())

    @property
    def look(self) -> tuple[list[Any], list[Any]]:
        """What is to be the same, without the tensors."""
        return self.objects, self.values

    def looks(self, look: tuple[list[Any], list[Any]]) -> bool:
        """Whether `look` is that of this."""
        objects, values = look
        same = self.values == values and len(self.objects) == len(objects)
        return same and all(map(operator.is_, self.objects, objects))


def _ties(tensors: list[Tensor | None]) -> list[int] | None:
    """The place of each tensor, if one is at two."""
    places = [id(tensor) for tensor in tensors if tensor is not None]
    return None if len(set(places)) == len(places) else [places.index(place) for place in places]


def has_changing_parts(net: nn.Module) -> bool:
    """Whether an attribute can change its fingerprint and stay the same object, as a list can."""
    modules = [module for _, module in named_modules(net)]
    return any(_is_changing(value) for m in modules for name, value in vars(m).items() if name not in _SKIPPED)


def _is_changing(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_is_changing(v) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return not value.__dataclass_params__.frozen or any(  # type: ignore[attr-defined]
            _is_changing(getattr(value, f.name)) for f in dataclasses.fields(value)
        )
    return isinstance(value, (list, dict))


def hooked(net: nn.Module) -> str | None:
    """The name of a module inside `net` that has hooks, which a compiled program would skip."""
    for name, module in named_modules(net):
        if any(_hooks(module)):
            return name or type(module).__name__
    return None


def _of_module(path: str, module: nn.Module, opened: Opened, places: dict[int, int]) -> Hashable:
    states = getattr(module, "states", ())
    skipped = _SKIPPED.union(getattr(type(module), "elastic", ())) if opened else _SKIPPED
    attributes = tuple([(k, _of_value(v)) for k, v in vars(module).items() if k not in skipped])
    tensors = [*module._parameters.items(), *[(k, b) for k, b in module._buffers.items() if k not in states]]
    layouts = tuple([(k, layout(t, opened.get(f"{path}.{k}" if path else k))) for k, t in tensors])
    same = tuple([t is not None and places.setdefault(id(t), len(places)) for _, t in tensors])
    return type(module), attributes, len(module._parameters), layouts, same


def layout(tensor: Tensor | None, opened: tuple[int, int] | None = None) -> Hashable:
    """Shape, dtype, device and whether a gradient is wanted; of an open size, its number."""
    if tensor is None:
        return None
    shape, *rest = _kind(tensor)
    return (shape if opened is None else ("open", opened[0], *shape[1:]), *rest)


def _of_value(value: Any) -> Hashable:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_of_value(v) for v in value)
    if isinstance(value, dict):
        return dict, tuple((_of_value(k), _of_value(v)) for k, v in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(_of_value(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)) and not getattr(value, "__closure__", None):
        return value
    return _Same(value)
