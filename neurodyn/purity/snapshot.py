"""What Python objects hold at one time: has anything changed since, and can it be put back?

A snapshot walks through modules, containers, objects and classes written in Python, functions with their closures, and
random generators. It does not look into tensors, whose values are no part of a program, nor into objects of other
kinds, such as files, which are hidden from it.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import functools
import itertools
import operator
import random
import re
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pint
import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.recipe import Recipe
from ..tools.errors import NotCompilable

_MOST = 50_000  # objects
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_SMALL = 2**20  # bytes of an array that is compared by value
#: The attribute of a module in which its programs are remembered.
REMEMBERED = "_remembered_programs"
#: Attributes of modules that a call changes and no step reads, and those whose contents are looked at with the module.
_OURS = frozenset({"_written", "_recipe", REMEMBERED, "_buffers", "_parameters", "_modules"})
#: Where a module keeps its hooks.
HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
_SKIPPED = _OURS.union(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))

_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), type(...), np.generic, range, slice, re.Pattern)
_TENSORS = (Tensor, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)
_CALLED = (types.MethodDescriptorType, types.WrapperDescriptorType)
_BOUND = (types.BuiltinFunctionType, types.MethodWrapperType)
_NAMES = (
    np.ufunc,
    getattr(torch.library, "CustomOpDef", ()),  # refused where it is called, as an operator of the user
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.UnionType,
    types.GenericAlias,
    torch.finfo,
    torch.iinfo,
    np.dtype,
    decimal.Decimal,
    datetime.timedelta,
    datetime.date,
    operator.itemgetter,
    pint.Unit,
    pint.UnitRegistry,
)
_LEAVES = (*_CONSTANTS, *_TENSORS, *_CALLED, *_NAMES)
_MISSING = object()
_CLASS = "__class__"  # under which that of a module or object is noted
_TRUSTED = tuple(f"{name}." for name in ("torch", __name__.partition(".")[0], "numpy", "builtins", "pint"))


def is_constant(value: object) -> bool:
    """Whether a value is known by its type and by ``==``."""
    return isinstance(value, _CONSTANTS)


def is_hidden(value: object) -> bool:
    """Whether a snapshot cannot look into a value."""
    return not _is_leaf(value) and _kind_of(value) is None


def _is_leaf(value: Any) -> bool:
    """Whether there is nothing in a value that could change."""
    if isinstance(value, types.ModuleType):  # one of the user's is read name by name
        return is_libraries(value.__name__)
    if isinstance(value, _BOUND):
        return value.__self__ is None or _is_leaf(value.__self__) or isinstance(value.__self__, type)
    if isinstance(value, _CACHED):
        return from_trusted_module(value)
    if isinstance(value, Tensor):  # others than parameters may have attributes; those of parameters may not be read
        return isinstance(value, nn.Parameter)
    return isinstance(value, _LEAVES) and not (is_constant(value) and is_extended(value))


def is_libraries(module: str) -> bool:
    """Whether a module is one of torch, NumPy, this library or the standard library."""
    return is_trusted_name(module) or module.partition(".")[0] in sys.stdlib_module_names


def is_extended(value: Any) -> bool:
    """Whether the class of a value is written in Python, and gives it attributes of its own."""
    return bool(type(value).__flags__ & _HEAP_TYPE) and (hasattr(value, "__dict__") or bool(_attributes(value)))


def from_trusted_module(thing: Any) -> bool:
    """Whether a class or function is one of torch, NumPy or this library."""
    return is_trusted_name(getattr(thing, "__module__", None))


def is_trusted_name(module: str | None) -> bool:
    """Whether a module is one of theirs."""
    return f"{module}.".startswith(_TRUSTED)


class _Part(NamedTuple):
    label: str
    read: functools.partial[list[Any]]
    restore: Callable[[list[Any]], None]
    held: list[Any]
    owner: Any  # held, so that its id stays its own


class Snapshot:
    """What some objects hold now.

    Args:
        effects: see also what only a step could have changed, such as the state of random generators, so that it can be
            put back.

    Attributes:
        codes: of the functions that were found.
        hidden: the labels of what it cannot look into.
    """

    def __init__(self, effects: bool = False):
        self.parts: dict[Any, _Part] = {}
        self.codes: set[types.CodeType] = set()
        self.hidden: list[str] = []
        self.effects = effects
        self.looked_at: _LookedAt | None = None

    def take(self, label: str, value: Any) -> None:
        """Note what `value` and everything in it holds; `label` is what it is called in messages.

        Raises:
            NotCompilable: there is too much in it.
        """
        waiting = [(label, value)]
        while waiting:
            label, value = waiting.pop()
            if _is_leaf(value) or id(value) in self.parts:
                continue
            if (kind := _kind_of(value)) is None:
                self.hidden.append(label)
            if kind is None or (kind is _GENERATOR and not self.effects):
                continue
            if isinstance(value, type) and value.__flags__ & _IMMUTABLE:  # such as object
                continue
            if len(self.parts) > _MOST:
                raise NotCompilable(f"{label} belongs to more objects than the engine can watch")
            if isinstance(value, types.FunctionType):
                self.codes.add(value.__code__)
            if isinstance(value, Recipe) and not self.effects:  # whose classes tell when they are changed
                kind = _COUNTED
            # A module lies in a part before it, but for the first, which must not be held by what it remembers.
            held = weakref.ref(value) if isinstance(value, nn.Module) else value
            self._note(
                id(value), label, held, functools.partial(kind.read, held), functools.partial(kind.restore, held)
            )
            waiting += [(f"{label}{name}", part) for name, part in kind.inside(value)]
            if kind not in _WHOLE and is_extended(value):  # such as a class of one's own that is a dict
                read, restore = (functools.partial(f, value) for f in (_OBJECT.read, _OBJECT.restore))
                self._note((id(value), "attributes"), label, value, read, restore)
                waiting += _OBJECT.inside(value)

    def _note(self, key: Any, label: str, owner: Any, read: Any, restore: Any) -> None:
        self.looked_at = None
        self.parts[key] = _Part(label, read, restore, read(), owner)

    def take_name(self, label: str, namespace: dict[str, Any], name: str) -> None:
        """Note one name of a namespace, such as a global variable, and what it holds."""
        key = id(namespace), name
        if key not in self.parts:
            read, restore = (functools.partial(f, namespace, name) for f in (_read_name, _restore_name))
            self._note(key, label, namespace, read, restore)
            if not isinstance(namespace.get(name), types.ModuleType):
                self.take(label, namespace.get(name))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that were found and are neither parameters nor registered, by their labels."""
        return {part.label: part.owner for part in self.parts.values() if isinstance(part.owner, Tensor)}

    def modules(self) -> list[nn.Module]:
        """The modules that were found inside."""
        owners = [part.owner() for part in self.parts.values() if isinstance(part.owner, weakref.ref)]
        return [owner for owner in owners if isinstance(owner, nn.Module)]

    def add(self, other: Snapshot) -> None:
        """Include what `other` holds."""
        self.parts = other.parts | self.parts
        self.codes |= other.codes
        self.looked_at = None

    def change(self) -> str | None:
        """What has changed, as its label; None if nothing has."""
        if self.looked_at is None:  # not at what cannot change, and once at the count of all classes
            counted = {part.held[0]: part for part in self.parts.values() if part.read.func is _COUNTED.read}
            others = [part for part in self.parts.values() if part.read.func not in (_COUNTED.read, _fixed)]
            self.looked_at = _LookedAt([*counted.values(), *others])
        return self.looked_at.change()

    def restore(self) -> None:
        """Put everything back as it was."""
        for part in self.parts.values():
            if _differ(part.read(), part.held):
                part.restore(part.held)


class _LookedAt:
    """Parts that are compared with what they held, all at once."""

    def __init__(self, parts: Sequence[_Part]):
        self.labels, self.reads = [part.label for part in parts], [part.read for part in parts]
        self.held = [part.held for part in parts]
        self.lengths, self.flat = [*map(len, self.held)], [*itertools.chain.from_iterable(self.held)]

    def change(self) -> str | None:
        """The label of the first part that is not as it was."""
        now = [read() for read in self.reads]
        if [*map(len, now)] == self.lengths and all(map(operator.is_, itertools.chain.from_iterable(now), self.flat)):
            return None
        return next((label for label, *two in zip(self.labels, now, self.held, strict=True) if _differ(*two)), None)


def _differ(now: list[Any], held: list[Any]) -> bool:
    return len(now) != len(held) or any(a is not b and not _equal(a, b) for a, b in zip(now, held, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, _Unseen):
        return True
    if type(a) is tuple and type(b) is tuple:  # such as a size, which is made anew
        return not _differ(list(a), list(b))
    return type(a) is type(b) and is_constant(a) and bool(a == b or (a != a and b != b)) and exact(a) == exact(b)


def exact(value: Any) -> Any:
    """What tells constants apart that are equal, such as 0.0 and -0.0, or ranges of different ends."""
    return repr(value) if isinstance(value, (float, complex, np.generic, range, slice)) else None


class _Kind(NamedTuple):
    """How objects of one kind are read and restored, and what is in them."""

    read: Callable[[Any], list[Any]]
    restore: Callable[[Any, list[Any]], None]
    inside: Callable[[Any], Iterable[tuple[str, Any]]]


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
    """The attributes of a module, with its parameters, modules, buffers but for states, hooks, and class."""
    own = vars(module)
    parameters, modules, buffers = own["_parameters"], own["_modules"], own["_buffers"]
    names = [*itertools.filterfalse(_SKIPPED.__contains__, own)]
    constant = [*itertools.filterfalse(_states_of(module).__contains__, buffers)]
    hooks = [hook for found in map(own.get, HOOKS) if found for hook in found] if any(map(own.get, HOOKS)) else ()
    values = *map(own.get, names), *dict.values(parameters), *dict.values(modules), *map(buffers.get, constant)
    return [*names, *parameters, *modules, *constant, *hooks, _CLASS, *values, *hooks, type(module)]


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
    held, registered = _module(module), {*map(id, module._buffers.values())}
    n = len(held) // 2
    inside = zip(held[:n], held[n:], strict=True)
    return [*((f".{name}", value) for name, value in inside if id(value) not in registered), ("", type(module))]


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, in its dict and in its slots."""
    found = getattr(value, "__dict__", {})
    slots = _slots_of.get(type(value))
    if slots is None:
        slots = _slots_of[type(value)] = [name for cls in type(value).__mro__ for name in _slots(cls)]
    return {name: getattr(value, name, _MISSING) for name in slots} | found if slots else found


def _object(value: Any) -> list[Any]:
    """The attributes of an object, and its class."""
    found = _attributes(value)
    return [*found, _CLASS, *found.values(), type(value)]


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    private = f"_{cls.__name__.lstrip('_')}"  # as Python calls them
    return [
        f"{private}{n}" if n.startswith("__") else n for n in names if not (n.startswith("__") and n.endswith("__"))
    ]


#: The slots of classes, which never change.
_slots_of: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()


def _set_attributes(value: Any, held: list[Any]) -> None:
    n = len(held) // 2
    before = dict(zip(held[:n], held[n:], strict=True))
    _set_class_of(value, before.pop(_CLASS))
    for name in list(_attributes(value)):
        if before.get(name, _MISSING) is _MISSING:
            _past_its_class(object.__delattr__, delattr, value, name)
    for name, item in before.items():
        if item is not _MISSING:
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
    for name in dict(vars(cls)):
        if name not in before:
            delattr(cls, name)
    for name, value in before.items():
        if vars(cls).get(name, _MISSING) is not value:
            setattr(cls, name, value)


def _inside_class(cls: type) -> list[tuple[str, Any]]:
    own = [] if is_libraries(cls.__module__) else [(f".{name}", value) for name, value in vars(cls).items()]
    return [*own, *(("", base) for base in (*cls.__bases__, type(cls)))]


def _function(f: types.FunctionType) -> list[Any]:
    cells = [cell.cell_contents if is_full(cell) else _MISSING for cell in f.__closure__ or ()]
    return [f.__code__, f.__defaults__, f.__kwdefaults__, *cells]


def is_full(cell: types.CellType) -> bool:
    """Whether a variable of a closure has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _set_function(f: types.FunctionType, held: list[Any]) -> None:
    f.__code__, f.__defaults__, f.__kwdefaults__ = held[:3]
    for cell, value in zip(f.__closure__ or (), held[3:], strict=True):
        if value is not _MISSING:
            cell.cell_contents = value


def _inside_function(f: types.FunctionType) -> list[tuple[str, Any]]:
    names = (" code", " defaults", " defaults", *(f" variable {name}" for name in f.__code__.co_freevars))
    cells = [(name, value) for name, value in zip(names, _function(f), strict=True) if value is not _MISSING]
    return [*cells[1:], ("", f.__dict__), ("", getattr(f, "__wrapped__", None))]


def _fixed(value: Any) -> list[Any]:
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


def _nothing(value: Any) -> list[tuple[str, Any]]:
    return []


def _generator(generator: Any) -> list[Any]:
    """The state of a random generator, as constants, and in the form in which it is set."""
    if isinstance(generator, torch.Generator):
        return [generator.get_state().numpy().tobytes(), _Unseen(generator.get_state())]
    if isinstance(generator, random.Random):
        return [repr(generator.getstate()), _Unseen(generator.getstate())]
    state: Any = generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()
    return [repr(_bytes(state)), _Unseen(copy.deepcopy(state))]


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


class _Unseen:
    """A value that does not count when two readings are compared."""

    def __init__(self, value: Any):
        self.value = value


_SEQUENCES = (list, deque, set, bytearray)
_COUNTED = _Kind(lambda cls: [Recipe.changes], _keep, _inside_class)
_GENERATOR = _Kind(_generator, _set_generator, _nothing)
_KINDS: list[tuple[Any, _Kind]] = [
    (nn.Module, _Kind(_of_module, _set_module, _inside_module)),
    (defaultdict, _Kind(_items, _set_items, lambda d: [*_named(d), (" factory", d.default_factory)])),
    (dict, _Kind(_items, _set_items, _named)),
    (_SEQUENCES, _Kind(list, _set_sequence, _numbered)),
    ((tuple, frozenset), _Kind(_fixed, _keep, _numbered)),
    (types.MappingProxyType, _Kind(_items, _keep, _named)),
    (types.FunctionType, _Kind(_function, _set_function, _inside_function)),
    (types.MethodType, _Kind(_fixed, _keep, lambda m: [("", m.__func__), ("", m.__self__)])),
    (
        functools.partial,
        _Kind(_fixed, _keep, lambda p: [("", p.func), ("", p.args), ("", p.keywords)]),
    ),
    ((classmethod, staticmethod), _Kind(_fixed, _keep, lambda m: [("", m.__func__)])),
    (_BOUND, _Kind(_fixed, _keep, lambda f: [("", f.__self__)])),
    (property, _Kind(_fixed, _keep, lambda p: [("", p.fget), ("", p.fset)])),
    (np.ndarray, _Kind(_array, _set_array, _nothing)),
    ((torch.Generator, random.Random, np.random.Generator, np.random.RandomState), _GENERATOR),
    (type, _Kind(lambda cls: _items(vars(cls)), _set_class, _inside_class)),
]
_OBJECT = _Kind(
    _object,
    _set_attributes,
    lambda value: _of_attributes(_attributes(value), type(value)),
)

_TENSOR = _OBJECT._replace(inside=lambda value: [] if from_trusted_module(type(value)) else _OBJECT.inside(value))
#: The kinds that look at the attributes of an object by themselves.
_WHOLE = (
    _OBJECT,
    _TENSOR,
    _COUNTED,
    *(kind for types_, kind in _KINDS if types_ in (nn.Module, types.FunctionType, type)),
)
#: Functions that remember what they have returned.
_CACHED = type(functools.lru_cache(len))


def _kind_of(value: Any) -> _Kind | None:
    """None for a leaf, and for what a snapshot cannot look into."""
    if isinstance(value, (types.ModuleType, _CACHED)):
        return None
    if isinstance(value, Tensor):
        return _TENSOR
    if isinstance(value, _BOUND) and _kind_of(value.__self__) is None:
        return None
    for types_, kind in _KINDS:
        if isinstance(value, types_):
            if isinstance(value, np.ndarray) and (value.nbytes > _SMALL or value.dtype.hasobject):
                return None
            return kind
    written_in_python = type(value).__flags__ & _HEAP_TYPE or isinstance(value, types.SimpleNamespace)
    return _OBJECT if written_in_python and (hasattr(value, "__dict__") or _attributes(value)) else None


_HEAP_TYPE = 1 << 9


def _read_name(namespace: dict[str, Any], name: str) -> list[Any]:
    return [namespace.get(name, _MISSING)]


def _restore_name(namespace: dict[str, Any], name: str, held: list[Any]) -> None:
    if held[0] is _MISSING:
        namespace.pop(name, None)
    else:
        namespace[name] = held[0]
