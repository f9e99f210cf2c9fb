"""A network with what is to be recorded as its output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.states import get_states, named_dynamics
from .population import PopulationMean


class Probe(nn.Module):
    """`net` with what is to be recorded as its output."""

    def __init__(self, net: nn.Module, record: Iterable[str] | Mapping[str, Any], driven: bool):
        super().__init__()
        self.net, self.driven = net, driven
        if not driven and type(net).forward in (Dynamics.forward, nn.Sequential.forward):
            raise TypeError(
                f"simulate: {type(net).__name__} takes an input in each step; give one, such as 0 * u.pA, "
                "nd.simulate(net, duration, inputs)"
            )
        record = (record,) if isinstance(record, str) else record
        self.wanted = dict(record) if isinstance(record, Mapping) else dict.fromkeys(record)
        if wrong := [name for name in self.wanted if not isinstance(name, str)]:
            raise TypeError(
                f"simulate: record takes names of states and outputs, got {wrong[0]!r}; neurons go with a name, for "
                f'example record={{"V": [{wrong[0]!r}], "spikes": None}}'
            )
        self.wanted = {name: None if what is True else what for name, what in self.wanted.items()}
        for name, index in self.wanted.items():
            if not (index is None or isinstance(index, (int, slice, PopulationMean))):  # a tensor cannot be traced
                chosen = torch.as_tensor(index, device=next(iter(get_states(net).values())).device)
                chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
                _check_index(name, chosen, get_states(net).get(name))
                self.register_buffer(_buffer(name), chosen)

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        y = self.net(*inputs) if self.driven else self.net()
        found = dict(y) if isinstance(y, Mapping) else {"output": y, "spikes": y} if isinstance(y, Tensor) else {}
        found |= get_states(self.net)
        for name, what in self.wanted.items():
            name = what.of if isinstance(what, PopulationMean) else name
            if name not in found:
                raise KeyError(f"simulate: there is no {name!r} to record; there are {', '.join(found)}")
        return {name: self._chosen(name, found) for name in self.wanted}

    def index(self, name: str) -> Any:
        """Which neurons are kept of a record: a whole number, a slice, a tensor, or None for all."""
        what = self.wanted[name]
        return None if isinstance(what, PopulationMean) else self._buffers.get(_buffer(name), what)

    def _chosen(self, name: str, found: Mapping[str, Tensor]) -> Tensor:
        what = self.wanted[name]
        if isinstance(what, PopulationMean):
            return what(found[what.of])
        index = self.index(name)
        return found[name] if index is None else found[name][..., index]


def _buffer(name: str) -> str:
    return f"index of {name}".replace(".", " ")


def _check_index(name: str, index: Tensor, state: Tensor | None) -> None:
    """See that `index` counts neurons, and those of a state that there are."""
    if index.is_floating_point() or index.is_complex():
        raise TypeError(f"simulate: record: the neurons of {name!r} must be whole numbers, got {index.tolist()}")
    n = None if state is None or not state.dim() else state.shape[-1]
    if n is not None and index.numel() and not -n <= int(index.min()) <= int(index.max()) < n:
        raise IndexError(
            f"simulate: record: {name!r} has {n} neurons, 0 to {n - 1}, and index {index.tolist()} goes beyond"
        )


def unit_of(net: nn.Module, name: str) -> pint.Unit:
    """The unit of a state by its name; no unit for an output."""
    path, _, state = name.rpartition(".")
    module = dict(named_dynamics(net)).get(path)
    return u.registry.dimensionless if module is None or state not in module.states else module.state_unit(state)
