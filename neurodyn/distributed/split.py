"""One process's part of a network: some neurons, and all that reaches them."""

from __future__ import annotations

import copy
import math
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..connections import Sparse
from ..core.dynamics import Dynamics
from ..core.fields import Parametrised
from ..delays.delay import Delay
from ..networks.projection import Projection


def mine(n: int) -> slice:
    """Which of n neurons belong to this process."""
    rank, world = dist.get_rank(), dist.get_world_size()
    return slice(n * rank // world, n * (rank + 1) // world)


class Exchange(Delay):
    """The delay of a split population: takes the spikes of this process and gives the delayed ones of all.

    Until the spikes of a window have been exchanged, its first states are holes, which no delay reaches.
    """

    @property
    def input_size(self) -> tuple[int, ...]:
        own = mine(self.size[0])
        return (own.stop - own.start,)

    def step(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        self.sent = x
        return self._at(past[0], past), past[-1], *past[:-1]


def unfold(net: nn.Module) -> None:
    """Give each delay one state for each step, which is what processes exchange."""
    for module in net.modules():
        if isinstance(module, Delay):
            module.settle()
            module._resize(module.length)


def split(net: nn.Module) -> tuple[nn.Module, set[int]]:
    """`net` with only the neurons of this process, and the sizes of the populations that were split.

    The layers of a population become their own part, and so do the connections onto it; what belongs to the source of
    a `Projection` stays whole.

    Raises:
        ValueError: a module that cannot be split.
    """
    sizes: set[int] = set()
    part = _part(net, "", sizes)
    return part, sizes


def _part(module: nn.Module, path: str, sizes: set[int]) -> nn.Module:
    if isinstance(module, Delay):
        return _exchange(module, path)
    if isinstance(module, Sparse):
        return _onto(module, path)
    if type(module) is nn.Linear:
        return _rows(module)
    if isinstance(module, Projection):
        return _projection(module, path, sizes)
    part = _clone(module)
    if isinstance(module, Dynamics) and any(f.shape is not None or f.shared for f in module.states.values()):
        _refuse(path, module, "it has states that are not one for each neuron, such as weights that change")
    if isinstance(module, Dynamics):
        if len(module.size) != 1:
            _refuse(path, module, f"its size is {module.size}, wanted one number of neurons")
        own = mine(module.size[0])
        sizes.add(module.size[0])
        part.size = (own.stop - own.start,)  # type: ignore[assignment]
        _cut(part, {module.size[0]})
    for name, child in module._modules.items():
        if child is not None:
            part._modules[name] = _part(child, f"{path}.{name}".lstrip("."), sizes)
    if not isinstance(module, Dynamics):
        if not module._modules and module._parameters and not isinstance(module, Parametrised):
            _refuse(path, module, "connections are nd.Sparse, FixedProb, FixedNum or nn.Linear")
        _cut(part, sizes)
    return part


def _projection(module: Projection, path: str, sizes: set[int]) -> nn.Module:
    part = _clone(module)
    source = {"plasticity"} if module.align == "post" else {"plasticity", "synapse"}
    for name, child in module._modules.items():
        if child is not None and name not in source:
            part._modules[name] = _part(child, f"{path}.{name}", sizes)
    return part


def _exchange(module: Delay, path: str) -> nn.Module:
    if module.least < 1:
        _refuse(path, module, "delays shorter than dt leave no time to exchange spikes")
    if len(module.size) != 1:
        _refuse(path, module, f"its size is {module.size}, wanted one number of neurons")
    part = _clone(module)
    part.__class__ = Exchange
    return part


def _onto(module: Sparse, path: str) -> nn.Module:
    """The synapses onto the neurons of this process."""
    if module.delays is not None:
        _refuse(path, module, "it has delays of its own; delay the spikes with nd.Delay")
    own = mine(math.prod(module.out_size))
    kept = (module.indices >= own.start) & (module.indices < own.stop)
    part: Any = _clone(module)
    count = torch.zeros(len(kept) + 1, dtype=torch.int32, device=kept.device)
    torch.cumsum(kept, 0, out=count[1:])
    part._buffers["indptr"] = count[module.indptr.long()]
    part._buffers["indices"] = module.indices[kept] - own.start
    part.out_size = (own.stop - own.start,)
    if module.weight.dim():
        holder = part._parameters if "weight" in part._parameters else part._buffers
        holder["weight"] = _like(module.weight, module.weight.detach()[kept])
    if module.bias is not None:
        holder = part._parameters if "bias" in part._parameters else part._buffers
        holder["bias"] = _like(module.bias, module.bias.detach().flatten()[own])
    return part


def _rows(module: nn.Linear) -> nn.Module:
    own = mine(module.out_features)
    part: Any = _clone(module)
    part.out_features = own.stop - own.start
    for name, value in module._parameters.items():
        part._parameters[name] = None if value is None else _like(value, value.detach()[own])
    return part


def _cut(part: nn.Module, sizes: set[int]) -> None:
    """Keep the own neurons' values of parameters and buffers that have one for each."""
    states = getattr(part, "states", ())
    for holder in (part._parameters, part._buffers):
        for name, value in dict.items(holder):
            if name in states:
                holder[name] = None
            elif value is not None and value.dim() and value.shape[-1] in sizes:
                holder[name] = _like(value, value.detach()[..., mine(value.shape[-1])])


def _like(value: Tensor, part: Tensor) -> Any:
    return nn.Parameter(part, value.requires_grad) if isinstance(value, nn.Parameter) else part


def _clone(module: nn.Module) -> nn.Module:
    """A copy with dictionaries of its own and the same tensors and children."""
    part = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        part.__dict__[name] = module.__dict__[name].copy()
    return part


def _refuse(path: str, module: nn.Module, reason: str) -> NoReturn:
    raise ValueError(f"nd.distributed.simulate: {type(module).__name__} {path!r} cannot be split: {reason}")
