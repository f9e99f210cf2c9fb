"""`from_nir`: a NIR graph as a network."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..delays.delay import Delay
from ..networks.recurrent import Recurrent
from .errors import NIRError, package
from .flat import Edges, Flat, opened
from .graph import Graph
from .models import Scale
from .neurons import Reader, described

NEURONS = ("LIF", "IF", "CubaLIF")


def from_nir(
    graph: Any,
    *,
    dt: Any = None,
    reset: Literal["hard", "soft"] = "hard",
    euler: bool = False,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The network of a NIR graph: an ``nn.Sequential`` of its layers, or a `neurodyn.nir.Graph` if it is no chain.

    A graph from `to_nir` comes back with its dt, resets and exact parameters. Others do not say how they count time;
    snnTorch and Norse step by forward Euler, and their files give their traces with ``euler=True`` and the dt that they
    were written with.

    Args:
        graph: a ``nir.NIRGraph``, or the path of a file.
        dt: time step; required unless the file has one.
        reset: what a spike does, where the file does not say: "hard", as NIR has it, or "soft" for a file of a network
            that subtracts.
        euler: choose the time constants whose exact step is the forward Euler step of those in the file.
        device, dtype: as in torch.nn.

    Raises:
        NIRError: a file that cannot be read, or a node that neurodyn has no model for; the message names it.
        ImportError: the package ``nir`` is not installed.
    """
    nir = package()
    if isinstance(graph, (str, Path)):
        graph = opened(nir, Path(graph))
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir: wanted a nir.NIRGraph or the path of a file, got {type(graph).__name__}")
    try:
        flat = Flat.of(nir, graph)
        options = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        return _Builder(nir, flat, Reader(flat.dt(dt), reset, euler, options)).build()
    except NIRError as error:
        raise NIRError(f"from_nir: {error}") from error


class _Builder:
    def __init__(self, nir: Any, flat: Flat, reader: Reader):
        self.nir, self.nodes, self.edges, self.back, self.reader = nir, flat.nodes, flat.edges, flat.back, reader
        ends = [[k for k, v in self.nodes.items() if isinstance(v, kind)] for kind in (nir.Input, nir.Output)]
        if any(len(end) != 1 for end in ends):
            raise NIRError(f"the graph has {len(ends[0])} inputs and {len(ends[1])} outputs, wanted one of each")
        self.input, self.output = ends[0][0], ends[1][0]

    def build(self) -> nn.Module:
        order, forward, back = self._order()
        sizes: dict[str, tuple[int, ...] | None] = {self.input: _size(self.nodes[self.input].output_type)}
        modules: dict[str, nn.Module] = {}
        for name in order:
            if name in (self.input, self.output):
                continue
            node = self.nodes[name]
            before = next((sizes[a] for a, b in forward if b == name and sizes.get(a) is not None), None)
            try:
                modules[name], sizes[name] = self._module(node, before)
            except (ValueError, TypeError, AssertionError, AttributeError, RuntimeError, IndexError) as error:
                raise NIRError(f"the {type(node).__name__} {name!r} cannot be read: {error}") from error
        for edge in list(back):
            self._recur(*edge, modules, forward, back)
        key = _keys(order, self.input, self.output)
        order = [name for name in order if name in modules]
        ends = [edge[k] for edge in forward for k in (0, 1)]
        if not back and all(ends.count(name) == 2 for name in order) and ends.count(self.input) == 1:
            return nn.Sequential(OrderedDict((key[name], modules[name]) for name in order))
        held = {}
        for name, _ in back:
            if (size := sizes[name]) is None:
                raise NIRError(f"the size of {name!r}, which feeds back, is not known")
            dt = self.reader.dt * u.ms
            held[key[name]] = Delay(size, dt, dt=dt, **self.reader.options)
        ahead, late = ([(key[a], key[b]) for a, b in edges] for edges in (forward, back))
        parts = {key[name]: modules[name] for name in order}
        return Graph(parts, ahead, late, held)

    def _order(self) -> tuple[list[str], Edges, Edges]:
        """The nodes in an order in which they can run, the edges, and those that go back in time.

        Those of which `to_nir` says so go back; in a circle without one it is the edge behind the neuron.
        """
        forward, back = list(self.edges), []
        for edge in self.back:
            if edge in forward:
                forward.remove(edge)
                back.append(edge)
        while True:
            graph = {name: [a for a, b in forward if b == name] for name in self.nodes}
            try:
                order = list(TopologicalSorter(graph).static_order())
            except CycleError as error:
                circle = error.args[1]
                neurons = [i for i in range(len(circle) - 1) if type(self.nodes[circle[i]]).__name__ in NEURONS]
                i = neurons[0] if neurons else 0
                edge = circle[i], circle[i + 1]
                forward.remove(edge)
                back.append(edge)
            else:
                break
        reached = {self.input}
        for _ in order:
            reached |= {b for a, b in self.edges if a in reached}
        for name in order:
            if name not in reached:
                raise NIRError(f"no path leads from the input to the node {name!r}")
        return order, forward, back

    def _recur(self, source: str, target: str, modules: dict[str, nn.Module], forward: Edges, back: Edges) -> None:
        """Make a neuron and the one module through which it drives itself into one `Recurrent`."""
        cell = modules[source]
        alone = [e for e in (*forward, *back) if target in e] == [(target, source), (source, target)]
        if alone and isinstance(cell, Dynamics) and not isinstance(cell, Delay):
            modules[source] = Recurrent(cell, modules.pop(target))
            forward.remove((target, source))
            back.remove((source, target))

    def _module(self, node: Any, before: tuple[int, ...] | None) -> tuple[nn.Module, tuple[int, ...] | None]:
        """The module of a node that gets an input of the size `before`, and the size of its output."""
        kind, options = type(node).__name__, self.reader.options
        if kind in ("LIF", "IF", "LI", "CubaLIF", "CubaLI", "Delay"):
            found = described(node, options)
            size = _size(node.output_type)
            if size is None or (np.prod(size) == 1 and before is not None):
                size = before or size
            if size is None:
                raise NIRError("its size is not known")
            return (self.reader.read(node, size) if found is None else found), size
        if kind in ("Linear", "Affine"):
            if node.weight.ndim != 2:
                raise NIRError(f"its weight has {node.weight.ndim} dimensions, wanted 2")
            out, into = node.weight.shape
            linear = nn.Linear(into, out, bias=kind == "Affine", **options)
            return self._filled(linear, node), (out,)
        if kind == "Scale":
            scale = np.array(node.scale)
            if scale.size == 1 and before is not None:  # one factor for all
                scale = np.full(before, scale.item(), scale.dtype)
            return Scale(torch.as_tensor(scale).to(**options)), tuple(scale.shape)
        if kind in ("Conv1d", "Conv2d"):
            return self._convolution(node, options), _convolved(node, before)
        if kind == "Flatten":
            start, end = (int(d) for d in (node.start_dim, node.end_dim))
            module = nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)
            return module, None if before is None else tuple(module(torch.empty(1, *before, device="meta")).shape[1:])
        if kind in ("SumPool2d", "AvgPool2d"):
            sizes = [
                tuple(int(n) for n in np.broadcast_to(v, 2)) for v in (node.kernel_size, node.stride, node.padding)
            ]
            module = nn.AvgPool2d(*sizes, divisor_override=1 if kind == "SumPool2d" else None)  # type: ignore[arg-type]
            return module, None if before is None else tuple(module(torch.empty(1, *before, device="meta")).shape[1:])
        raise NIRError("neurodyn has no model for it")

    def _convolution(self, node: Any, options: Mapping[str, Any]) -> nn.Module:
        one = type(node).__name__ == "Conv1d"
        settings: dict[str, Any] = {}
        for name in ("stride", "padding", "dilation"):
            value = getattr(node, name)
            settings[name] = value if isinstance(value, str) else tuple(int(n) for n in np.atleast_1d(value))
        groups = int(node.groups)
        channels = node.weight.shape[1] * groups, node.weight.shape[0]
        kind = nn.Conv1d if one else nn.Conv2d
        module = kind(*channels, tuple(node.weight.shape[2:]), groups=groups, **settings, **options)
        return self._filled(module, node)

    def _filled(self, module: Any, node: Any) -> nn.Module:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                value = torch.as_tensor(np.array(getattr(node, name)))
                if value.shape != parameter.shape:
                    raise NIRError(f"its {name} has shape {tuple(value.shape)}, wanted {tuple(parameter.shape)}")
                parameter.copy_(value)
        return module


def _size(types: Any) -> tuple[int, ...] | None:
    value = next(iter(types.values()), None) if types else None
    return None if value is None else tuple(int(n) for n in np.atleast_1d(value))


def _convolved(node: Any, before: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if before is None:
        return None
    pair = len(node.weight.shape) - 2
    stride, dilation = (np.broadcast_to(np.asarray(v), pair) for v in (node.stride, node.dilation))
    reach = dilation * (np.array(node.weight.shape[2:]) - 1)
    padding = node.padding
    if isinstance(padding, str):
        total = reach if padding == "same" else 0 * reach
    else:
        total = 2 * np.broadcast_to(np.asarray(padding), pair)
    return (node.weight.shape[0], *(int(n) for n in (np.array(before[1:]) + total - reach - 1) // stride + 1))


def _keys(names: list[str], input: str, output: str) -> dict[str, str]:
    """For each node a name of its own that torch allows for a module."""
    found: dict[str, str] = {input: "input", output: "output"}
    for name in names:
        key = re.sub(r"\W", "_", name) or "_"
        while name not in found and key in found.values():
            key += "_"
        found.setdefault(name, key)
    return found
