"""What a program depends on besides its tensors: two modules with equal fingerprints run the same code."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import types
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pint
import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.states import constants, named_modules
from .kinds import REMEMBERED
from .leaves import attributes_of_class, exact, from_trusted_module, is_constant, is_extended, is_full

_SKIPPED = frozenset(vars(nn.Module())) - {"training"} | {"_recipe", "_written", REMEMBERED}
_SMALL = 2**12  # bytes of an array
_OWN = __name__.partition(".")[0] + "."

#: For each constant whose first dimension may vary, by qualified name, the number and the value of that size.
Elastic = Mapping[str, tuple[int, int]]


class Unique(Exception):
    """A value is like no other one, so that programs are found for this one module only."""


def fingerprint(net: nn.Module, elastic: Elastic) -> Hashable:
    """Types, plain attributes and tensor layouts of every module in `net`, without the sizes that are `elastic`.

    And which modules and tensors are the same.

    Raises:
        Unique: an attribute can only be compared by identity.
    """
    look = _Look()
    names = [(name, look.place(module)) for name, module in net.named_modules(remove_duplicate=False)]
    return tuple(names), tuple([look.of_module(name, module, elastic) for name, module in named_modules(net)])


class _Look:
    """What values look like: equal looks mean the same code. An object that comes again is told by its place."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}

    def place(self, value: object) -> int:
        return self.places.setdefault(id(value), len(self.places))

    def of_module(self, path: str, module: nn.Module, elastic: Elastic) -> Hashable:
        states = module.states if isinstance(module, Dynamics) else ()
        skipped = _SKIPPED.union(getattr(type(module), "elastic", ())) if elastic else _SKIPPED
        attributes = tuple([(k, self.of(v)) for k, v in vars(module).items() if k not in skipped])
        tensors = [*module._parameters.items(), *[(k, b) for k, b in module._buffers.items() if k not in states]]
        layouts = tuple([(k, layout(t, elastic.get(f"{path}.{k}" if path else k))) for k, t in tensors])
        same = tuple([t is not None and self.place(t) for _, t in tensors])
        return self.of(type(module)), attributes, len(module._parameters), layouts, same

    def of(self, value: Any) -> Hashable:
        if (isinstance(value, (tuple, list, dict)) or is_constant(value)) and is_extended(value):
            if not isinstance(value, enum.Enum):
                raise Unique
        if isinstance(value, float):
            return type(value), value.hex()
        if is_constant(value) or isinstance(value, (torch.dtype, torch.device, torch.Size, enum.Enum)):
            return type(value), repr(value) if type(value).__hash__ is None else value, exact(value)
        if isinstance(value, type) and from_trusted_module(value):
            return _Class(value) if issubclass(value, nn.Module) else value
        if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, (types.ModuleType, type)):
            return value
        if id(value) in self.places:
            return "again", self.places[id(value)]
        self.place(value)
        return self._of_object(value)

    def _of_object(self, value: Any) -> Hashable:
        if isinstance(value, (tuple, list)):
            return type(value), tuple([self.of(v) for v in value])
        if isinstance(value, dict):
            return type(value), tuple([(self.of(k), self.of(v)) for k, v in value.items()])
        if isinstance(value, np.ndarray) and value.nbytes <= _SMALL and not value.dtype.hasobject:
            return value.shape, str(value.dtype), value.tobytes()
        if isinstance(value, type):
            return value, tuple([self._of_class(cls) for cls in value.__mro__])
        if dataclasses.is_dataclass(value):
            fields = tuple([self.of(getattr(value, f.name, None)) for f in dataclasses.fields(value)])
            return self.of(type(value)), fields, self.of(getattr(value, "__dict__", {}))
        if isinstance(value, pint.Unit):
            return pint.Unit, str(value)
        if isinstance(value, pint.Quantity):
            return pint.Quantity, self.of(value.magnitude), str(value.units)
        if f"{type(value).__module__}.".startswith(_OWN) and hasattr(value, "__dict__"):  # a state, a record, ...
            return self.of(type(value)), self.of(vars(value))
        if isinstance(value, functools.partial):
            return functools.partial, self.of(value.func), self.of(value.args), self.of(value.keywords)
        if isinstance(value, types.FunctionType):
            cells = tuple([is_full(cell) and self.of(cell.cell_contents) for cell in value.__closure__ or ()])
            return value.__code__, cells, self.of(value.__defaults__), self.of(value.__kwdefaults__)
        raise Unique

    def _of_class(self, cls: type) -> Hashable:
        """The methods of a class written by a user, which may be replaced, and its other attributes."""
        if from_trusted_module(cls):
            return self.of(cls)
        return cls, tuple([(name, self._of_attribute(value)) for name, value in attributes_of_class(cls).items()])

    def _of_attribute(self, value: Any) -> Hashable:
        if isinstance(value, property):
            return tuple([self._of_attribute(f) for f in (value.fget, value.fset, value.fdel)])
        if isinstance(value, (classmethod, staticmethod)):
            return type(value), self.of(value.__func__)
        try:
            return self.of(value)
        except (Unique, ValueError):  # such as a declared state: the class would be another one if it were replaced
            return _Same(value)


def layout(tensor: Tensor | None, elastic: tuple[int, int] | None = None) -> Hashable:
    """Shape, dtype, device and whether a gradient is wanted; of an elastic size, its number."""
    if tensor is None:
        return None
    shape = tensor.shape if elastic is None else ("elastic", elastic[0], *tensor.shape[1:])
    return shape, tensor.dtype, tensor.device, tensor.requires_grad


class _Class:
    """A class with the methods that it has now: one of torch's may have been replaced."""

    def __init__(self, cls: type):
        self.held = [cls, *[item for base in cls.__mro__[:-1] for item in attributes_of_class(base).values()]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Class) or len(self.held) != len(other.held):
            return False
        return all(map(operator.is_, self.held, other.held))

    def __hash__(self) -> int:
        return hash(self.held[0])


class _Same:
    """An object that is equal to itself alone."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def elastic_sizes(net: nn.Module) -> dict[str, tuple[int, int]]:
    """The sizes of constants that a program leaves open, such as the number of synapses of a connection.

    A class names in its attribute `elastic` the tensors whose first dimension differs between modules that are
    otherwise the same; the first one tells the size, which a module inside shares. Other attributes named there are no
    part of a program.
    """
    named = [(path, getattr(type(module), "elastic", ())) for path, module in named_modules(net)]
    if not any([names for _, names in named]):
        return {}
    tensors, owners = constants(net), {}
    sizes: dict[str, int] = {}
    found = {}
    for path, names in named:
        if not names:
            continue
        owner = owners[path] = owners.get(path.rpartition(".")[0], path)
        qualified = [f"{path}.{name}" if path else name for name in names]
        if owner == path and qualified[0] in tensors:
            sizes[path] = len(tensors[qualified[0]])
        for name in qualified:
            tensor, n = tensors.get(name), sizes.get(owner, 0)
            if tensor is not None and tensor.dim() and len(tensor) == n > 1:
                found[name] = list(sizes).index(owner), n
    return found
