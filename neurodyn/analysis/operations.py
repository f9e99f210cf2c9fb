"""How many synaptic operations a network makes, and about how much energy they take."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import units as u
from ..connections import OneToOne, Sparse
from ..connections.base import Connection
from ..loop import unroll

#: Energy of an addition, and of a multiplication with an addition, in float32 and 45 nm (Horowitz 2014).
ADD, MULTIPLY_ADD = 0.9 * u.pJ, 4.6 * u.pJ
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Operations(NamedTuple):
    """Synaptic operations for one sample, over all of its time steps.

    Attributes:
        accumulates: additions of a weight: inputs that are not zero, in steps in which all inputs are 0, 1 or -1.
        multiplies: multiplications with an addition: inputs that are not zero, in all other steps.
        dense: all weights times all inputs, zero or not.
    """

    accumulates: float
    multiplies: float
    dense: float


@dataclass(frozen=True)
class SynapticOperations:
    """The result of `synaptic_operations`; printing it shows a table.

    Attributes:
        layers: `Operations` for each connection, by name.
        samples: the number of samples that were counted.
    """

    layers: dict[str, Operations]
    samples: int

    @property
    def total(self) -> Operations:
        """The sum over all connections."""
        return Operations(*(sum(numbers) for numbers in zip(*self.layers.values(), strict=True)))

    def energy(self, add: Any = ADD, multiply_add: Any = MULTIPLY_ADD) -> dict[str, u.Quantity]:
        """The energy of each connection for one sample: operations times the energy of one. Memory is not counted."""
        return {name: n.accumulates * add + n.multiplies * multiply_add for name, n in self.layers.items()}

    def __add__(self, other: SynapticOperations) -> SynapticOperations:
        """The mean of two batches, weighted by their samples."""
        if self.layers.keys() != other.layers.keys():
            raise ValueError("synaptic_operations: the two results are of different networks")
        both = self.samples + other.samples

        def mean(a: Operations, b: Operations) -> Operations:
            return Operations(*((x * self.samples + y * other.samples) / both for x, y in zip(a, b, strict=True)))

        return SynapticOperations({name: mean(n, other.layers[name]) for name, n in self.layers.items()}, both)

    def __repr__(self) -> str:
        rows = [("layer", "additions", "multiplications", "dense", "energy")]
        energy = self.energy()
        everything = {**self.layers, "all": self.total}
        picojoule = {**energy, "all": sum(energy.values(), 0 * u.pJ)}
        for name, n in everything.items():
            joule = f"{picojoule[name].to('nJ').magnitude:.4g} nJ"
            rows.append((name, f"{n.accumulates:.6g}", f"{n.multiplies:.6g}", f"{n.dense:.6g}", joule))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            "  ".join(
                cell.rjust(n) if i else cell.ljust(n) for i, (cell, n) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


@torch.no_grad()
def synaptic_operations(net: nn.Module, xs: Any = None, **options: Any) -> SynapticOperations:
    r"""Count the synaptic operations of `net` on the inputs `xs`, for each connection and per sample.

    A weight that is not zero makes one operation for each step in which its input is not zero. It is an addition
    if all inputs of the connection in that step are 0, 1 or -1, and a multiplication with an addition otherwise. A
    bias is not counted. This is the accounting of NeuroBench 2.3 (``Effective_ACs``, ``Effective_MACs``, ``Dense``).

    Counted are ``nn.Linear``, convolutions of torch.nn and the connections of neurodyn. NeuroBench does not know the
    sparse ones: here `dense` is the number of their synapses for each step, and of `OneToOne` that of its weights. A
    copy of the network runs, with its current weights, by `unroll`: compiled, where the network is.

    Args:
        net: a network for `unroll`.
        xs: typical inputs, ``(T, *batch, ...)``; required, as the count depends on the spikes that they cause.
        options: those of `unroll`, such as ``compile=False``.

    Raises:
        TypeError: no inputs.
        ValueError: a network without connections or without a layer of neurodyn, or with cells or rules of plasticity
            whose weights are not those of a connection.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), nd.LIF(4), torch.nn.Linear(4, 2))
        >>> spikes = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])[:, None]  # two steps of one sample
        >>> nd.analysis.synaptic_operations(net, spikes, compile=False).layers["0"]  # 3 spikes to 4 targets
        Operations(accumulates=12.0, multiplies=0.0, dense=24.0)

    Source: Yik et al. (2025), The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems,
    Nature Communications 16; energies: Horowitz (2014), Computing's energy problem, ISSCC.
    """
    if xs is None:
        raise TypeError(
            "synaptic_operations: xs is missing, typical inputs with time in front, as the count depends on the spikes "
            "that they cause; call nd.analysis.synaptic_operations(net, xs)"
        )
    probed = copy.deepcopy(net)
    probes = _probes(probed)
    if not probes:
        raise ValueError(f"synaptic_operations: {type(net).__name__} has no connection to count")
    _, recording = unroll(probed, xs, record=tuple(probes.values()), **options)
    layers, samples = {}, 1
    for name, probe in probes.items():
        connection = net.get_submodule(name)
        x = recording[probe].values
        x = x.reshape(len(x), -1, *x.shape[x.dim() - _item(connection) :])  # (T, samples, *item)
        samples = x.shape[1]
        spiking = ((x == 0) | (x.abs() == 1)).flatten(1).all(1)  # of each step
        counts, dense = _count(connection, x)
        adds, others = counts[spiking].sum().item(), counts[~spiking].sum().item()
        layers[name] = Operations(adds / samples, others / samples, dense * len(x))
    return SynapticOperations(layers, samples)


def _item(connection: nn.Module) -> int:
    """The number of dimensions of one input of a connection."""
    if isinstance(connection, CONVOLUTIONS):
        return connection.weight.dim() - 1
    return len(connection.in_size) if isinstance(connection, Sparse) else 1


def _probes(net: nn.Module) -> dict[str, str]:
    """Put a module that returns its input before each connection; its name by that of the connection."""
    found = {}
    for path, parent in list(net.named_modules()):
        if hasattr(parent, "change") or (hasattr(parent, "weight_hh") and not isinstance(parent, Sparse)):
            raise ValueError(f"synaptic_operations: {path!r}, a {type(parent).__name__}, cannot be counted")
    for path, parent in list(net.named_modules()):
        row = type(parent).forward is nn.Sequential.forward
        for key, child in list(parent._modules.items()):
            if not isinstance(child, (nn.Linear, *CONVOLUTIONS, Connection, Sparse)):
                continue
            name = f"{path}.{key}".lstrip(".")
            if row:
                _insert(parent, key, f"{key}_input")
                found[name] = f"{name}_input"
            else:
                child.probe = nn.Identity()
                child.__class__ = _probing(type(child))
                found[name] = f"{name}.probe"
    if isinstance(net, (nn.Linear, *CONVOLUTIONS, Connection, Sparse)):
        raise ValueError("synaptic_operations: the network is a single connection; put it into an nn.Sequential")
    return found


def _insert(row: nn.Module, before: str, name: str) -> None:
    """A module that returns its input, before another in an ``nn.Sequential``."""
    modules = list(row._modules.items())
    row._modules.clear()
    for key, module in modules:
        if key == before:
            row._modules[name] = nn.Identity()
        row._modules[key] = module


def _probing(kind: type) -> type:
    """The class of a connection that passes its input through its `probe`."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return kind.forward(self, self.probe(x))

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _count(connection: Any, x: Tensor) -> tuple[Tensor, float]:
    """Operations of each step, in float64, and those of a step for one sample if nothing is zero."""
    here = (x != 0).double()
    if isinstance(connection, CONVOLUTIONS):
        ones = copy.deepcopy(connection).double()
        ones.bias = None
        ones.weight.copy_(connection.weight != 0)
        counts = torch.stack([ones(step).sum() for step in here])
        ones.weight.fill_(1.0)
        return counts, ones(torch.ones_like(here[0, :1])).sum().item()
    if isinstance(connection, Sparse):
        source = connection.pre_index
        fan = torch.bincount(source[connection.weight.expand(source.shape) != 0], minlength=len(connection.indptr) - 1)
        dense = float(len(source))
    else:
        matrix = connection.matrix() if isinstance(connection, Connection) else connection.weight
        fan = (matrix != 0).sum(0)
        dense = float(matrix.shape[0] if isinstance(connection, OneToOne) else matrix.numel())
    return here.flatten(2).matmul(fan.double()).sum(1), dense
