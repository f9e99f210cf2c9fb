"""What is computed from constants once for a whole sequence, and shared by its forward and its backward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

#: Values by a digest of the expression that they are computed by.
Known = dict[str, Tensor]


class _Constant(NamedTuple):
    index: int


class _Value(NamedTuple):
    expression: str


class Prologue:
    """``(constants, known) -> values``: what is not in `known` is computed, and then is.

    Args:
        constants: nodes of a graph, by their position among the constants.
        nodes: functions of constants and of each other, in order, and what else they need.
        values: those whose values are wanted.

    Attributes:
        used: the constants that the values depend on; None if a value is a part of one.
    """

    def __init__(self, constants: Mapping[Node, int], nodes: Iterable[Node], values: Sequence[Node]):
        names: dict[Node, Any] = {node: _Constant(i) for node, i in constants.items()}
        needed, steps = set(values), []
        for node in nodes:
            args, kwargs = (map_arg(given, names.__getitem__) for given in (node.args, node.kwargs))
            names[node] = _Value(hashlib.sha256(f"{node.target}{args}{kwargs}".encode()).hexdigest())
            steps.append((node, names[node].expression, node.target, args, kwargs))
        self.steps: list[Any] = []
        for node, *step in reversed(steps):
            if node in needed:
                needed.update(node.all_input_nodes)
                self.steps.insert(0, step)
        self.values = [names[node].expression for node in values]
        # A value that is part of a constant changes with it.
        views = any(_is_view(step[1]) for step in self.steps)
        self.used = None if views else {i for node, i in constants.items() if node in needed}

    def __call__(self, constants: Sequence[Tensor], known: Known) -> list[Tensor]:
        try:
            return list(map(known.__getitem__, self.values))
        except KeyError:
            return self._computed(constants, known)

    def _computed(self, constants: Sequence[Tensor], known: Known) -> list[Tensor]:
        for expression, target, args, kwargs in self.steps:
            if expression not in known:
                given = {name: _resolved(value, constants, known) for name, value in kwargs.items()}
                known[expression] = target(*[_resolved(a, constants, known) for a in args], **given)
        return [known[expression] for expression in self.values]


def _is_view(target: Any) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is None or any(value.alias_info is not None for value in schema.returns)


def _resolved(argument: Any, constants: Sequence[Tensor], known: Known) -> Any:
    if isinstance(argument, _Constant):
        return constants[argument.index]
    if isinstance(argument, _Value):
        return known[argument.expression]
    if isinstance(argument, (list, tuple)):
        return [_resolved(a, constants, known) for a in argument]
    return argument
