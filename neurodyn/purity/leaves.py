"""Values in which nothing can change, and whose code is known: what a snapshot need not look into."""

from __future__ import annotations

import datetime
import decimal
import functools
import operator
import re
import sys
import types
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import pint
import torch
from torch import Tensor, nn

from ..core.recipe import MADE_BY_PYTHON

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: written in Python
#: Where an attribute has no value.
MISSING = object()
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), type(...), np.generic, range, slice, re.Pattern)
_TENSORS = (Tensor, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)
_CALLED = (types.MethodDescriptorType, types.WrapperDescriptorType)
BOUND = (types.BuiltinFunctionType, types.MethodWrapperType)
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
_TRUSTED = tuple(f"{name}." for name in ("torch", __name__.partition(".")[0], "numpy", "builtins", "pint"))
#: Functions that remember what they have returned.
CACHED = type(functools.lru_cache(len))


def is_constant(value: object) -> bool:
    """Whether a value is known by its type and by ``==``."""
    return isinstance(value, _CONSTANTS)


def is_leaf(value: Any) -> bool:
    """Whether there is nothing in a value that could change."""
    if isinstance(value, types.ModuleType):  # one of the user's is read name by name
        return is_libraries(value.__name__)
    if isinstance(value, BOUND):
        return value.__self__ is None or is_leaf(value.__self__) or isinstance(value.__self__, type)
    if isinstance(value, CACHED):
        return from_trusted_module(value)
    if isinstance(value, Tensor):  # others than parameters may have attributes; those of parameters may not be read
        return isinstance(value, nn.Parameter)
    return isinstance(value, _LEAVES) and not (is_constant(value) and is_extended(value))


def is_libraries(module: str) -> bool:
    """Whether a module is one of torch, NumPy, this library or the standard library."""
    return is_trusted_name(module) or module.partition(".")[0] in sys.stdlib_module_names


def is_extended(value: Any) -> bool:
    """Whether the class of a value is written in Python, and gives it attributes of its own."""
    return is_written_in_python(value) and (hasattr(value, "__dict__") or bool(attributes_of(value)))


def from_trusted_module(thing: Any) -> bool:
    """Whether a class or function is one of torch, NumPy or this library."""
    return is_trusted_name(getattr(thing, "__module__", None))


def is_trusted_name(module: str | None) -> bool:
    """Whether a module is one of theirs."""
    return f"{module}.".startswith(_TRUSTED)


def is_full(cell: types.CellType) -> bool:
    """Whether a variable of a closure has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def is_written_in_python(value: object) -> bool:
    """Whether the class of a value is."""
    return bool(type(value).__flags__ & _HEAP_TYPE)


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, in its dict and in its slots."""
    found, slots = getattr(value, "__dict__", {}), slots_of(type(value))
    return {name: getattr(value, name, MISSING) for name in slots} | found if slots else found


def attributes_of_class(cls: type) -> dict[str, Any]:
    """Those of its own, without what Python writes there, such as a cache of a copy."""
    return {name: value for name, value in vars(cls).items() if name not in MADE_BY_PYTHON}


def slots_of(kind: type) -> list[str]:
    """The names of the slots of a class and its bases."""
    if (found := _slots_of.get(kind)) is None:
        found = _slots_of[kind] = [name for cls in kind.__mro__ for name in _slots(cls)]
    return found


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    private = f"_{cls.__name__.lstrip('_')}"  # as Python calls them
    return [
        f"{private}{n}" if n.startswith("__") else n for n in names if not (n.startswith("__") and n.endswith("__"))
    ]


#: The slots of classes, which never change.
_slots_of: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()


def exact(value: Any) -> Any:
    """What tells constants apart that are equal, such as 0.0 and -0.0, or ranges of different ends."""
    return repr(value) if isinstance(value, (float, complex, np.generic, range, slice)) else None
