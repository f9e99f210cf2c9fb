"""Whether objects hold the very same objects as when they were last compared: by same.cpp, for most of a snapshot.

Python takes some 50 ns for each attribute, of which a network has hundreds with those of its classes; C++ takes 1 ns.
What is not the same may still be equal: that is left to snapshot.py, as is what C++ does not know, and everything where
there is no compiler.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import sys
import weakref
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..core.dynamics import Dynamics
from ..ops import native
from .kinds import CHANGING, CLASS, DICT, HOOKS, MODULE, OBJECT, SEQUENCE, Part
from .leaves import slots_of

_DICT, _OBJECT, _SEQUENCE = range(3)  # as same.cpp has them
_ANY = object()


class _Block(NamedTuple):
    """What an object holds: keys and values by turns, and behind those of an object its class; or items."""

    kind: int
    owner: Any
    held: list[Any]


class Same:
    """What the objects of some parts hold now.

    Attributes:
        rest: the parts that are of other kinds.
    """

    def __init__(self, parts: Iterable[Part]):
        self.is_same, self.rest, blocks = _library(), [], []
        for part in parts:
            found = [*_blocks(part)] if self.is_same is not None else []
            blocks += found
            if not found:
                self.rest.append(part)
        self.modules, self.held, words = [], [], array("q")
        for kind, owner, held in blocks:
            n = len(held) if kind == _SEQUENCE else len(held) // 2
            words.extend((kind, id(owner), n, *(0 if value is _ANY else id(value) for value in held)))
            self.held.append(held)  # so that no other object gets its address
            if isinstance(owner, nn.Module):  # which must not live for as long as what is remembered of it
                self.modules.append(weakref.ref(owner))
            else:
                self.held.append(owner)
        words.append(-1)
        self.words, self.place = words, ctypes.c_void_p(words.buffer_info()[0])

    def holds(self) -> bool:
        """Whether they still do."""
        alive = [module() for module in self.modules]
        return self.is_same is None or (None not in alive and self.is_same(self.place) == 1)


def _blocks(part: Part) -> Iterator[_Block]:
    owner, kind = part.owner, part.kind
    if kind is MODULE and (module := owner()) is not None:
        yield from _of_module(module)
    elif kind is DICT and type(owner) is dict:
        yield _Block(_DICT, owner, _pairs(owner))
    elif kind is SEQUENCE and type(owner) in (list, set):
        yield _Block(_SEQUENCE, owner, [*owner])
    elif kind is CLASS:
        inside = gc.get_referents(vars(owner))  # the dict, of which vars gives a view
        if len(inside) == 1 and type(inside[0]) is dict:
            yield _Block(_DICT, inside[0], _pairs(inside[0]))
    elif kind is OBJECT and not slots_of(type(owner)) and _has_plain_dict(owner):
        yield _Block(_OBJECT, owner, [*_pairs(vars(owner)), type(owner)])


def _of_module(module: nn.Module) -> Iterator[_Block]:
    own = vars(module)
    hooks = [found for name in HOOKS if (found := own.get(name)) is not None]
    tables = [own[name] for name in ("_parameters", "_modules", "_buffers")]
    if not all([isinstance(table, dict) for table in (*hooks, *tables)]) or any(hooks) or not _has_plain_dict(module):
        return
    yield _Block(_OBJECT, module, [*_pairs(own, CHANGING), type(module)])
    states = module.states if isinstance(module, Dynamics) else ()
    yield from [_Block(_DICT, table, _pairs(table, states if table is tables[-1] else ())) for table in tables]
    yield from [_Block(_DICT, table, []) for table in hooks]


def _pairs(table: dict[Any, Any], changing: Any = ()) -> list[Any]:
    items = [(key, _ANY if key in changing else value) for key, value in dict.items(table)]
    return [*itertools.chain.from_iterable(items)]


def _has_plain_dict(owner: Any) -> bool:
    """Whether its attributes lie in its dict: those of threading.local, for one, differ from thread to thread."""
    try:
        return vars(owner) is _dict_of(owner, None)
    except (TypeError, AttributeError):
        return False


_dict_of = ctypes.PyDLL(None).PyObject_GenericGetDict
_dict_of.argtypes, _dict_of.restype = [ctypes.py_object, ctypes.c_void_p], ctypes.py_object


@functools.cache
def _library() -> Any:
    """The function in C++; None where it cannot be had."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # it holds objects by their addresses alone
        return None
    try:
        library = native.load(Path(__file__).with_suffix(".cpp"))
    except native.NotAvailable:
        return None
    return ctypes.PyDLL(str(library._name), handle=library._handle).is_same
