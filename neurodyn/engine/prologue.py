"""What is computed from constants once for a whole sequence, and shared by its forward and its backward pass."""

from __future__ import annotations

import ctypes
import hashlib
import math
from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from ..dynamics import Dynamics
from ..states import named_dynamics
from .rounds import library
from .trace import Layout

#: Values by a digest of the expression that they are computed by; and initial states by the shapes of an input.
Known = dict[Hashable, Any]

_SMALL = 2**12  # elements of a constant
_KEPT = 16  # sets of values


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


class Store:
    """What prologues made of small constants on the CPU, found again while these hold the same bytes, however set.

    Args:
        used: constants that the values depend on.
        layouts: of all constants.
    """

    def __init__(self, used: Sequence[int], layouts: Sequence[Layout]):
        sizes = [math.prod(layouts[i].shape) for i in used]
        few = all(0 <= size <= _SMALL for size in sizes) and all(layouts[i].device.type == "cpu" for i in used)
        self.used = used if few else ()
        self.sizes = array("q", [layouts[i].dtype.itemsize * size for i, size in zip(used, sizes, strict=True)])
        self.found: dict[bytes, Known] = {}
        self.last: tuple[bytes, Known] = b"", {}

    def known(self, constants: Sequence[Tensor]) -> Known | None:
        """What is known where the constants are these, which grows; None if they are large, or cannot be seen."""
        if not self.used:
            return None
        held, known = self.last
        places = array("q", [constants[i].data_ptr() for i in self.used])
        at, sizes = places.buffer_info()[0], self.sizes.buffer_info()[0]
        if not held or not library().same(at, sizes, len(places), held):
            held = b"".join(map(ctypes.string_at, places, self.sizes))
            if held not in self.found and len(self.found) >= _KEPT:
                self.found = {}
            known = self.found.setdefault(held, {})
            self.last = held, known
        return known


def initial(net: nn.Module, constants: list[Tensor]) -> list[int] | None:
    """The constants that `net` computes its initial states from.

    None if it needs more, or these are large, on a GPU, or have gradients.
    """
    places, found = {id(tensor): i for i, tensor in enumerate(constants)}, []
    for _, module in named_dynamics(net):
        if type(module).reset_state is not Dynamics.reset_state or "reset_state" in vars(module):
            return None
        for field in module.states.values():
            value = getattr(module, field.initializer)
            if id(value) not in places or value.requires_grad or not value.is_cpu or value.numel() > _SMALL:
                return None
            found.append(places[id(value)])
    return found


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
