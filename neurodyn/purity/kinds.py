"""How objects of each kind are read and restored, and what is in them."""

from __future__ import annotations

import copy
import functools
import itertools
import random
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.recipe import Recipe
from .leaves import (
    BOUND,
    CACHED,
    MISSING,
    attributes_of,
    attributes_of_class,
    from_trusted_module,
    is_constant,
    is_full,
    is_libraries,
    is_written_in_python,
)

_SMALL = 2**20  # bytes of an array that is compared by value
#: The attribute of a module in which its programs are remembered.
REMEMBERED = "_remembered_programs"
#: Attributes of modules that a call changes and no step reads.
CHANGING = frozenset({"_written", "_recipe", REMEMBERED})
#: Where a module keeps its hooks.
HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
_SKIPPED = CHANGING.union(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))
_CLASS = "__class__"  # under which that of a module or object is noted
_BUFFERS = "_buffers"  # where a program finds the states of a module


class Kind(NamedTuple):
    """How objects of one kind are read and restored, and what is in them."""

    read: Callable[[Any], list[Any]]
    restore: Callable[[Any, list[Any]], None]
    inside: Callable[[Any], Iterable[tuple[str, Any]]]


class Part(NamedTuple):
    """What one object held.

    Attributes:
        owner: the object, so that its id stays its own; or where it is a module, a weak reference.
    """

    label: str
    kind: Kind
    owner: Any
    held: list[Any]


def _items(mapping: Any) -> list[Any]:
    return [*mapping, *mapping.values()]


def _set_items(mapping: dict[Any, Any], held: list[Any]) -> None:
    n = len(held) // 2
    kind: Any = OrderedDict if isinstance(mapping, OrderedDict) else dict
    kind.clear(mapping)  # not by methods of its own class: those of a Counter count
    for key, value in zip(held[:n], held[n:], strict=True):
        kind.__setitem__(mapping, key, value)


def _named(mapping: Any) -> list[tuple[str, Any]]:
    return [(f"[{key!r}]" if is_constant(key) else "[...]", value) for key, value in mapping.items()]


def _of_module(module: weakref.ref[nn.Module]) -> list[Any]:
    return [] if (found := module()) is None else _module(found)


def _module(module: nn.Module) -> list[Any]:
    """The attributes, parameters, modules, hooks and class of a module, its buffers but for states, and their dict."""
    own = vars(module)
    parameters, modules, buffers = own["_parameters"], own["_modules"], own["_buffers"]
    names = [*itertools.filterfalse(_SKIPPED.__contains__, own)]
    constant = [*itertools.filterfalse(_states_of(module).__contains__, buffers)]
    hooks = [hook for found in map(own.get, HOOKS) if found for hook in found] if any(map(own.get, HOOKS)) else ()
    values = *map(own.get, names), *dict.values(parameters), *dict.values(modules), *map(buffers.get, constant)
    end = _BUFFERS, _CLASS, *values, *hooks, buffers, type(module)
    return [*names, *parameters, *modules, *constant, *hooks, *end]


def _set_class_of(value: Any, cls: type) -> None:
    if type(value) is not cls:
        object.__setattr__(value, _CLASS, cls)


def _states_of(module: nn.Module) -> Container[str]:
    return module.states if isinstance(module, Dynamics) else ()


def _set_module(reference: weakref.ref[nn.Module], held: list[Any]) -> None:
    if (module := reference()) is None:
        return
    n = len(held) // 2
    before, own = dict(zip(held[:n], held[n:], strict=True)), vars(module)
    _set_class_of(module, before.pop(_CLASS))
    own[_BUFFERS] = before.pop(_BUFFERS)
    places = own["_parameters"], own["_modules"], own["_buffers"]
    states = _states_of(module)
    for place in (own, *places):
        for name in list(place):
            if name not in before and not (place is own and name in _SKIPPED) and name not in states:
                del place[name]
    for name, value in before.items():
        if isinstance(name, str):
            for place in places:
                if name in place:
                    place[name] = value
                    break
            else:
                kind = 0 if isinstance(value, nn.Parameter) else 1 if isinstance(value, nn.Module) else None
                (own if kind is None or name in own else places[kind])[name] = value


def _inside_module(module: nn.Module) -> list[tuple[str, Any]]:
    held, registered = _module(module), {id(module._buffers), *map(id, module._buffers.values())}
    n = len(held) // 2
    inside = zip(held[:n], held[n:], strict=True)
    return [*((f".{name}", value) for name, value in inside if id(value) not in registered), ("", type(module))]


def _object(value: Any) -> list[Any]:
    """The attributes of an object, and its class."""
    found = attributes_of(value)
    return [*found, _CLASS, *found.values(), type(value)]


def _set_attributes(value: Any, held: list[Any]) -> None:
    n = len(held) // 2
    before = dict(zip(held[:n], held[n:], strict=True))
    _set_class_of(value, before.pop(_CLASS))
    for name in list(attributes_of(value)):
        if before.get(name, MISSING) is MISSING:
            _past_its_class(object.__delattr__, delattr, value, name)
    for name, item in before.items():
        if item is not MISSING:
            _past_its_class(object.__setattr__, setattr, value, name, item)


def _past_its_class(generic: Any, own: Any, *arguments: Any) -> None:
    """Not by methods of its class, but where that is not written in Python, such as threading.local."""
    try:
        generic(*arguments)
    except TypeError:
        own(*arguments)


def _of_attributes(found: dict[str, Any], cls: type) -> list[tuple[str, Any]]:
    return [*((f".{name}", value) for name, value in found.items()), ("", cls)]


def _set_class(cls: type, held: list[Any]) -> None:
    n = len(held) // 2
    before = dict(zip(held[:n], held[n:], strict=True))
    for name in attributes_of_class(cls):
        if name not in before:
            delattr(cls, name)
    for name, value in before.items():
        if vars(cls).get(name, MISSING) is not value:
            setattr(cls, name, value)


def _inside_class(cls: type) -> list[tuple[str, Any]]:
    own = (
        []
        if is_libraries(cls.__module__)
        else [(f".{name}", value) for name, value in attributes_of_class(cls).items()]
    )
    return [*own, *(("", base) for base in (*cls.__bases__, type(cls)))]


def _function(f: types.FunctionType) -> list[Any]:
    cells = [cell.cell_contents if is_full(cell) else MISSING for cell in f.__closure__ or ()]
    return [f.__code__, f.__defaults__, f.__kwdefaults__, *cells]


def _set_function(f: types.FunctionType, held: list[Any]) -> None:
    f.__code__, f.__defaults__, f.__kwdefaults__ = held[:3]
    for cell, value in zip(f.__closure__ or (), held[3:], strict=True):
        if value is not MISSING:
            cell.cell_contents = value


def _inside_function(f: types.FunctionType) -> list[tuple[str, Any]]:
    names = (" code", " defaults", " defaults", *(f" variable {name}" for name in f.__code__.co_freevars))
    cells = [(name, value) for name, value in zip(names, _function(f), strict=True) if value is not MISSING]
    return [*cells[1:], ("", f.__dict__), ("", getattr(f, "__wrapped__", None))]


def fixed(value: Any) -> list[Any]:
    """What cannot change has nothing to compare."""
    return []


def _keep(value: Any, held: list[Any]) -> None:
    """What cannot change has nothing to restore."""


def _set_sequence(sequence: Any, held: list[Any]) -> None:
    kind: Any = next(kind for kind in _SEQUENCES if isinstance(sequence, kind))  # not by methods of its own class
    kind.clear(sequence)
    getattr(kind, "update" if kind is set else "extend")(sequence, held)


def _numbered(sequence: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"[{i}]", value) for i, value in enumerate(sequence)]


def _array(array: np.ndarray) -> list[Any]:
    return [array.tobytes(), str(array.dtype), array.shape]


def _set_array(array: np.ndarray, held: list[Any]) -> None:
    array[...] = np.frombuffer(held[0], array.dtype).reshape(array.shape)


def _set_name(place: tuple[dict[str, Any], str], held: list[Any]) -> None:
    namespace, name = place
    if held[0] is MISSING:
        namespace.pop(name, None)
    else:
        namespace[name] = held[0]


def _nothing(value: Any) -> list[tuple[str, Any]]:
    return []


def _generator(generator: Any) -> list[Any]:
    """The state of a random generator, as constants, and in the form in which it is set."""
    if isinstance(generator, torch.Generator):
        return [generator.get_state().numpy().tobytes(), Unseen(generator.get_state())]
    if isinstance(generator, random.Random):
        return [repr(generator.getstate()), Unseen(generator.getstate())]
    state: Any = generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()
    return [repr(_bytes(state)), Unseen(copy.deepcopy(state))]


def _bytes(state: Any) -> Any:
    """A state without arrays, whose text would leave out most of them."""
    if isinstance(state, dict):
        return {name: _bytes(value) for name, value in state.items()}
    if isinstance(state, tuple):
        return tuple([_bytes(value) for value in state])
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _set_generator(generator: Any, held: list[Any]) -> None:
    state = held[1].value
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


class Unseen:
    """A value that does not count when two readings are compared."""

    def __init__(self, value: Any):
        self.value = value


_SEQUENCES = (list, deque, set, bytearray)
COUNTED = Kind(lambda cls: [Recipe.changes], _keep, _inside_class)
GENERATOR = Kind(_generator, _set_generator, _nothing)
MODULE = Kind(_of_module, _set_module, _inside_module)
DICT = Kind(_items, _set_items, _named)
SEQUENCE = Kind(list, _set_sequence, _numbered)
CLASS = Kind(lambda cls: _items(attributes_of_class(cls)), _set_class, _inside_class)
_KINDS: list[tuple[Any, Kind]] = [
    (nn.Module, MODULE),
    (defaultdict, Kind(_items, _set_items, lambda d: [*_named(d), (" factory", d.default_factory)])),
    (dict, DICT),
    (_SEQUENCES, SEQUENCE),
    ((tuple, frozenset), Kind(fixed, _keep, _numbered)),
    (types.MappingProxyType, Kind(_items, _keep, _named)),
    (types.FunctionType, Kind(_function, _set_function, _inside_function)),
    (types.MethodType, Kind(fixed, _keep, lambda m: [("", m.__func__), ("", m.__self__)])),
    (
        functools.partial,
        Kind(fixed, _keep, lambda p: [("", p.func), ("", p.args), ("", p.keywords)]),
    ),
    ((classmethod, staticmethod), Kind(fixed, _keep, lambda m: [("", m.__func__)])),
    (BOUND, Kind(fixed, _keep, lambda f: [("", f.__self__)])),
    (property, Kind(fixed, _keep, lambda p: [("", p.fget), ("", p.fset)])),
    (np.ndarray, Kind(_array, _set_array, _nothing)),
    ((torch.Generator, random.Random, np.random.Generator, np.random.RandomState), GENERATOR),
    (type, CLASS),
]
OBJECT = Kind(_object, _set_attributes, lambda value: _of_attributes(attributes_of(value), type(value)))
#: Of one name of a namespace, given as ``(namespace, name)``.
NAME = Kind(lambda place: [place[0].get(place[1], MISSING)], _set_name, _nothing)

_TENSOR = OBJECT._replace(inside=lambda value: [] if from_trusted_module(type(value)) else OBJECT.inside(value))
#: The kinds that look at the attributes of an object by themselves.
WHOLE = (
    OBJECT,
    _TENSOR,
    COUNTED,
    *(kind for types_, kind in _KINDS if types_ in (nn.Module, types.FunctionType, type)),
)


def kind_of(value: Any) -> Kind | None:
    """None for a leaf, and for what a snapshot cannot look into."""
    if isinstance(value, (types.ModuleType, CACHED)):
        return None
    if isinstance(value, Tensor):
        return _TENSOR
    if isinstance(value, BOUND) and kind_of(value.__self__) is None:
        return None
    for types_, kind in _KINDS:
        if isinstance(value, types_):
            if isinstance(value, np.ndarray) and (value.nbytes > _SMALL or value.dtype.hasobject):
                return None
            return kind
    written_in_python = is_written_in_python(value) or isinstance(value, types.SimpleNamespace)
    return OBJECT if written_in_python and (hasattr(value, "__dict__") or attributes_of(value)) else None
