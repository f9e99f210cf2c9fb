"""Buffers of a module that nobody finds by walking over the network: where `Dynamics` keeps its states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from ..torch_private import read_by_export


class Buffers(dict[str, Any]):
    """The ``_buffers`` of a module with states, which ``items()`` and ``values()`` leave out.

    Through these two ``module.buffers()`` and ``named_buffers()`` find what there is. A state is None until the first
    batch, and has another shape with the next one; whoever pairs up the buffers of two networks (an average of the
    weights) or of two processes (DDP) must not see it. By name states are buffers as any other: for ``module.V``,
    ``torch.func.functional_call``, ``in`` and iteration. `Precise._apply` moves them with the module. torch.export,
    which makes what it finds here part of the program, finds them. ``dict.items(buffers)`` has all.

    Attributes:
        states: names that are left out.
    """

    def __init__(self, values: Mapping[str, Any], states: Iterable[str] = ()):
        super().__init__(values)
        self.states = set(states)

    def __missing__(self, name: str) -> Any:
        if name in self.states:
            raise KeyError(f"the state {name} of a layer has been deleted, and it needs all of them; build it again")
        raise KeyError(name)

    def items(self) -> Any:
        if read_by_export():
            return super().items()
        return [(name, value) for name, value in super().items() if name not in self.states]

    def values(self) -> Any:
        return [value for _, value in self.items()]

    def copy(self) -> Buffers:
        return Buffers(self, self.states)

    def __reduce__(self) -> Any:  # copies and pickles of a dict are made of its items()
        return Buffers, (dict(self), self.states)


def hidden_items(module: nn.Module) -> list[tuple[str, Tensor | None]]:
    """What ``module._buffers.items()`` leaves out."""
    buffers = module._buffers
    return [(name, buffers[name]) for name in buffers if name in buffers.states] if isinstance(buffers, Buffers) else []
