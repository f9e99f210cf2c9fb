"""The order of states: a method gets them by their places, so that a name at another place would be another state."""

from __future__ import annotations

import inspect
from collections.abc import Sequence


def check_order(cls: type, method: str, states: Sequence[str], inputs: int | None) -> None:
    """Refuse a method that has the name of a state at the place of another one.

    Args:
        cls: the class that has it.
        method: its name.
        states: in the order in which they are passed.
        inputs: how many arguments come before them; None where a forward of the class decides that.

    Raises:
        TypeError: with the signature of the method, and the order in which the states are declared.
    """
    function = inspect.getattr_static(cls, method, None)
    if not inspect.isfunction(function):
        return
    found = inspect.signature(function)
    taken = list(found.parameters.values())[1:]
    places = [p for p in taken if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names, n = [p.name for p in places], 1 if inputs is None else inputs
    at = {i: states.index(name) for i, name in enumerate(names) if name in states}
    rest = any(p.kind is p.VAR_POSITIONAL for p in taken)
    if rest or sum(p.default is p.empty for p in places) >= n + len(states):  # then an input may be called as a state
        at = {i: k for i, k in at.items() if i >= n}
    if list(at.values()) == sorted(at.values()) if inputs is None else all(i == n + k for i, k in at.items()):
        return
    bare = found.replace(
        parameters=[p.replace(annotation=p.empty) for p in found.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    before = ["..."] if inputs is None else [name for name in names[:n] if name not in states] or ["input"]
    raise TypeError(
        f"{cls.__name__}: {method}{bare} has the name of a state at the place of another one. States are passed by "
        f"their places, in the order in which they are declared, those of a base class first: {', '.join(states)}; "
        f"write {method}(self, {', '.join([*before, *states])}), further inputs behind, or declare them in that order"
    )
