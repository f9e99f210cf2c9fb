"""What Python objects hold at one time: has anything changed since, and can it be put back?

A snapshot walks through modules, containers, objects and classes written in Python, functions with their closures, and
random generators. It does not look into tensors, whose values are no part of a program, nor into objects of other
kinds, such as files, which are hidden from it.
"""

from __future__ import annotations

import operator
import types
import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core.recipe import Recipe
from ..tools.errors import NotCompilable
from .kinds import COUNTED, GENERATOR, NAME, OBJECT, WHOLE, Kind, Part, Unseen, fixed, kind_of
from .leaves import exact, is_constant, is_extended, is_leaf
from .same import Same

_MOST = 50_000  # objects
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


def is_hidden(value: object) -> bool:
    """Whether a snapshot cannot look into a value."""
    return not is_leaf(value) and kind_of(value) is None


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
        self.parts: dict[Any, Part] = {}
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
            if is_leaf(value) or id(value) in self.parts:
                continue
            if (kind := kind_of(value)) is None:
                self.hidden.append(label)
            if kind is None or (kind is GENERATOR and not self.effects):
                continue
            if isinstance(value, type) and value.__flags__ & _IMMUTABLE:  # such as object
                continue
            if len(self.parts) > _MOST:
                raise NotCompilable(f"{label} belongs to more objects than the engine can watch")
            if isinstance(value, types.FunctionType):
                self.codes.add(value.__code__)
            if isinstance(value, Recipe) and not self.effects:  # whose classes tell when they are changed
                kind = COUNTED
            # A module lies in a part before it, but for the first, which must not be held by what it remembers.
            self._note(id(value), label, kind, weakref.ref(value) if isinstance(value, nn.Module) else value)
            waiting += [(f"{label}{name}", part) for name, part in kind.inside(value)]
            if kind not in WHOLE and is_extended(value):  # such as a class of one's own that is a dict
                self._note((id(value), "attributes"), label, OBJECT, value)
                waiting += OBJECT.inside(value)

    def _note(self, key: Any, label: str, kind: Kind, owner: Any) -> None:
        self.looked_at = None
        self.parts[key] = Part(label, kind, owner, kind.read(owner))

    def take_name(self, label: str, namespace: dict[str, Any], name: str) -> None:
        """Note one name of a namespace, such as a global variable, and what it holds."""
        key = id(namespace), name
        if key not in self.parts:
            self._note(key, label, NAME, (namespace, name))
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
            counted = {part.held[0]: part for part in self.parts.values() if part.kind is COUNTED}
            others = [part for part in self.parts.values() if part.kind is not COUNTED and part.kind.read is not fixed]
            self.looked_at = _LookedAt([*counted.values(), *others])
        return self.looked_at.change()

    def restore(self) -> None:
        """Put everything back as it was."""
        for part in self.parts.values():
            if _differ(part.kind.read(part.owner), part.held):
                part.kind.restore(part.owner, part.held)


class _LookedAt:
    """Parts that are compared with what they held, all at once."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = parts
        self.same: Same | None = None
        self.rest: Sequence[Part] = ()
        self.looks = 0

    def change(self) -> str | None:
        """The label of the first part that is not as it was."""
        if self.same is not None and self.same.holds() and _first_change(self.rest) is None:
            return None
        changed = _first_change(self.parts)
        if changed is None:
            if self.looks:  # not where nobody looks again, as at the effects of a trace
                self.same = Same(self.parts)
                self.rest = self.same.rest
            self.looks += 1
        return changed


def _first_change(parts: Sequence[Part]) -> str | None:
    for label, kind, owner, held in parts:
        if _differ(kind.read(owner), held):
            return label
    return None


def _differ(now: list[Any], held: list[Any]) -> bool:
    if len(now) != len(held):
        return True
    return not all(map(operator.is_, now, held)) and not all(map(_equal, now, held))


def _equal(a: Any, b: Any) -> bool:
    if a is b or isinstance(a, Unseen):
        return True
    if type(a) is tuple and type(b) is tuple:  # such as a size, which is made anew
        return not _differ(list(a), list(b))
    return type(a) is type(b) and is_constant(a) and bool(a == b or (a != a and b != b)) and exact(a) == exact(b)
