"""What depends on small constants alone, found again while these hold the same bytes, however set."""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dynamics import Dynamics
from ..states import named_dynamics
from .rounds import library
from .trace import Layout, plain

FEW = 2**16  # bytes of states that are kept
_SMALL = 2**12  # elements of a constant
_KEPT = 16  # sets of values, and shapes of initial states


class Store:
    """A dict for each set of values that the constants had.

    Args:
        used: which constants these are.
        layouts: of all constants.
    """

    def __init__(self, used: Sequence[int], layouts: Sequence[Layout]):
        sizes = [math.prod(layouts[i].shape) for i in used]  # an open one is negative
        few = all(0 <= size <= _SMALL for size in sizes) and all(layouts[i].device.type == "cpu" for i in used)
        self.used = used if few else ()
        self.sizes = array("q", [layouts[i].dtype.itemsize * size for i, size in zip(used, sizes, strict=True)])
        self.found: dict[bytes, dict[Any, Any]] = {}
        self.last: tuple[bytes, dict[Any, Any]] = b"", {}

    def known(self, constants: Sequence[Tensor]) -> dict[Any, Any] | None:
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


class Initial:
    """The initial states of modules of one kind, made once for each shape; nobody else has them.

    Args:
        used: the constants that they are computed from.
        layouts: of all constants.
    """

    def __init__(self, used: Sequence[int], layouts: Sequence[Layout]):
        self.store = Store(used, layouts)

    @classmethod
    def of(cls, net: nn.Module, constants: Sequence[Tensor], layouts: Sequence[Layout]) -> Initial | None:
        """Those of `net`; None if a reset does more, or takes large constants, or has gradients."""
        places, used = {id(tensor): i for i, tensor in enumerate(constants)}, []
        for _, module in named_dynamics(net):
            if type(module).reset_state is not Dynamics.reset_state or "reset_state" in vars(module):
                return None
            for field in module.states.values():
                value = getattr(module, field.initializer)
                if id(value) not in places or value.requires_grad:
                    return None
                used.append(places[id(value)])
        found = cls(sorted(set(used)), layouts)
        return found if found.store.used else None

    def states(
        self, constants: Sequence[Tensor], xs: Sequence[Tensor], start: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """The states for these inputs with time in front, contiguous; `start` makes them."""
        known, shapes = self.store.known(constants), tuple([x.shape[1:] for x in xs])
        if known is None or (states := known.get(shapes)) is None:
            states = plain(start())
            if known is not None and sum(state.nbytes for state in states) <= FEW:
                if len(known) >= _KEPT:
                    known.clear()
                with torch.inference_mode(False):  # a backward pass may need them some time
                    known[shapes] = [torch.empty_like(state).copy_(state) for state in states]
        return states
