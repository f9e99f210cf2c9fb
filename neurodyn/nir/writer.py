"""`to_nir`: a network as a NIR graph."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..connections import OneToOne, ScaledWSConv1d, ScaledWSConv2d, Sparse
from ..connections.base import Connection
from ..core.current import CUBA
from ..core.dynamics import UnsetState
from ..core.states import check_dt, named_dynamics
from ..delays.delay import Delay
from ..networks.projection import Projection
from ..networks.recurrent import Recurrent
from ..neurons import IF, LIF
from ..synapses import Expon
from . import neurons
from .errors import NIRError, package
from .flat import noted
from .graph import Graph
from .models import Scale


def to_nir(net: nn.Module, *, input_size: int | tuple[int, ...] | None = None) -> Any:
    """`net` as a ``nir.NIRGraph``, which ``nir.write(path, graph)`` writes to a file.

    Taken are `LIF`, `IF`, `Expon` (with a neuron behind it: a CubaLIF), readouts, `Delay`, `Recurrent`, `Projection`
    without plasticity, linear and sparse connections, convolutions, pooling, ``nn.Flatten``, what `from_nir` gives, and
    modules whose forward calls such modules and adds their outputs. ``delay.read()`` of a `Delay`, in a network that
    feeds back on itself, is an edge that goes back in time. Connections become their weight matrices.

    Args:
        net: takes one step of an input.
        input_size: shape of the input without batch; needed where the first layer does not say.

    Raises:
        NIRError: a part that NIR cannot represent; the message names it.
        ImportError: the package ``nir`` is not installed.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), nd.LIF(2, reset="hard"))
        >>> sorted(type(node).__name__ for node in nd.to_nir(net).nodes.values())
        ['Affine', 'Input', 'LIF', 'Output']
    """
    nir = package()
    writer = _Writer(nir)
    out = writer.run(net, "", ("input",))
    if not writer.nodes:
        raise NIRError(f"to_nir: {type(net).__name__} has no layer")
    size = (input_size,) if isinstance(input_size, int) else input_size
    if size is None:
        size = writer.input_size()
    size = np.array(size)
    writer.nodes |= {"input": nir.Input({"input": size}), "output": nir.Output({"output": None})}
    edges, back = writer.joined([*writer.edges, *((source, "output") for source in out)])
    dt = check_dt(net) if any(named_dynamics(net)) else None
    try:
        return nir.NIRGraph(writer.nodes, edges, metadata=noted(dt, back))
    except ValueError as error:
        raise NIRError(f"to_nir: the sizes of {type(net).__name__} do not fit: {error}") from error


_LOOP = (
    "what goes back to an earlier layer goes through an nd.Delay, read by delay.read() and then called with the output "
    "of this step"
)
#: What to write in place of an operation, by its name.
_INSTEAD = {
    "getitem": "give each part of a population a layer of its own",
    "sub": "put the minus into the weights of a layer",
    "neg": "put the minus into the weights of a layer",
    "mul": "put the factor into the weights of a layer",
    "truediv": "put the factor into the weights of a layer",
    "cat": "join the layers into one, or add their outputs",
}


class _Writer:
    def __init__(self, nir: Any):
        self.nir = nir
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.seen: dict[int, str] = {}
        self.late: dict[str, tuple[str, ...]] = {}  # stands for nodes that may not be there yet, as source of an edge

    def input_size(self) -> tuple[int, ...]:
        for source, target in self.edges:
            found = self.nodes[target].input_type["input"] if source == "input" else None
            if found is not None:
                return tuple(int(n) for n in found)
        raise NIRError("to_nir: the first layer has no fixed input size; pass input_size=, for example (1, 28, 28)")

    def run(self, module: nn.Module, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Add `module`, driven by the sum of the outputs of `sources`; returns the nodes that give its output."""
        if isinstance(module, Recurrent):
            before = self.of_the_step_before(path)
            back = self.run(module.feedback, _join(path, "feedback"), (before,))
            self.late[before] = self.run(module.cell, _join(path, "cell"), (*sources, *back))
            return self.late[before]
        if isinstance(module, Graph):
            return self.graph(module, path, sources)
        if _does_nothing(module):
            return sources
        if (parts := _row(module, path)) is not None:
            return self.row(parts, sources)
        if (node := self.node(module, path)) is not None:
            return self.add(module, path, node, sources)
        if module._modules:
            return self.traced(module, path, sources)
        return self.refuse(module, path, "NIR has no node for it")

    def of_the_step_before(self, path: str) -> str:
        """A source of edges that go back in time; which nodes it is, `late` says in the end."""
        return f"\0{path}"  # no name of a module

    def joined(self, edges: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """All edges from node to node, and those among them that go back in time."""
        found: list[tuple[str, str]] = []
        back = []
        for source, target in edges:
            for node in self.late.get(source, (source,)):
                edge = (node, target)
                if edge in found:  # NIR has one at most between two nodes
                    again = self.again(node)
                    found.append((again, target))
                    edge = (node, again)
                found.append(edge)
                back += [edge] if source in self.late else []
        return found, back

    def again(self, name: str) -> str:
        """A new node that gives what the node `name` gives."""
        size = (self.nodes[name].output_type or {}).get("output")
        if size is None:
            raise NIRError(f"to_nir: two edges lead from {name!r} to one node; add them up in a layer of their own")
        copy = f"{name}_again"
        while copy in self.nodes:
            copy += "_"
        self.nodes[copy] = self.nir.Scale(scale=np.ones(tuple(int(n) for n in size)))
        return copy

    def graph(self, module: Graph, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """A network that `from_nir` made, edge by edge."""
        before = {a: self.of_the_step_before(_join(path, a)) for a, _ in module.back}
        values = {"input": sources}
        for name in (*module.parts, "output"):
            given = [source for a, b in module.edges if b == name for source in values[a]]
            given += [before[a] for a, b in module.back if b == name]
            part = module.parts[name] if name in module.parts else nn.Identity()
            values[name] = self.run(part, _join(path, name), tuple(given))
        self.late |= {source: values[a] for a, source in before.items()}
        return values["output"]

    def row(self, parts: list[tuple[str, nn.Module]], sources: tuple[str, ...]) -> tuple[str, ...]:
        """Modules one after the other; a synapse and the neuron behind it are one node."""
        rest = iter([*itertools.pairwise(parts), *((part, ("", None)) for part in parts[-1:])])
        for (path, part), (path_behind, behind) in rest:
            if getattr(part, "exact", False):
                self.refuse(part, path, "exact=True has no field in NIR; build it without")
            if type(part) is Expon and type(behind) in (LIF, IF) and part.size == behind.size:  # type: ignore[union-attr]
                sources = self.add(behind, path_behind, neurons.write(part, behind), sources)  # type: ignore[arg-type]
                next(rest, None)
            else:
                sources = self.run(part, path, sources)
        return sources

    def add(self, module: nn.Module, path: str, node: Any, sources: Iterable[str]) -> tuple[str, ...]:
        name = (path or type(module).__name__.lower()).replace("/", "_")  # HDF5 would make folders of it
        while name in self.nodes or name in ("input", "output"):
            name += "_"
        if id(module) in self.seen:
            self.refuse(module, path, f"it is also {self.seen[id(module)]!r}, and a node stands at one place")
        self.seen[id(module)] = name
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def traced(self, module: nn.Module, path: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """A module with a forward of its own, that calls its children and adds what they give."""
        tracer = _Tracer()
        try:
            with _reads_traced(module, tracer):
                graph = tracer.trace(module)
        except UnsetState as error:
            self.refuse(module, path, f"its forward reads a state before the call of this step ({error}); {_LOOP}")
        except Exception as error:
            self.refuse(module, path, f"its forward cannot be traced ({error})")
        values: dict[fx.Node, tuple[str, ...]] = {}
        read: dict[str, str] = {}  # delays that are read before they get their input, and what stands for it
        for step in graph.nodes:
            given = [values[node] for node in step.all_input_nodes]
            if step.op == "placeholder":
                if values:
                    self.refuse(module, path, "its forward takes more than one input")
                values[step] = sources
            elif step.op == "call_module":
                child = module.get_submodule(step.target)
                if len(given) != 1:
                    self.refuse(child, _join(path, step.target), f"it takes {len(given)} inputs")
                if before := read.get(step.target):
                    self.late[before] = given[0]
                    if not step.users:  # it is called to remember its input
                        continue
                values[step] = self.run(child, _join(path, step.target), given[0])
            elif step.target is _read:
                (name,) = step.args
                if name not in read:
                    read[name] = self.of_the_step_before(_join(path, name))
                values[step] = self.earlier(module.get_submodule(name), _join(path, name), read[name])
            elif step.op == "output":
                for name, before in read.items():
                    if before not in self.late:
                        self.refuse(module, path, f"its forward reads {name} and never gives it an input")
                if len(given) != 1:
                    self.refuse(module, path, f"it returns {len(given)} outputs")
                return given[0]
            elif (
                step.target in (operator.add, torch.add, "add")
                and (len(step.args), len(step.kwargs)) == (2, 0)
                and all(isinstance(term, fx.Node) for term in step.args)
            ):
                values[step] = tuple(source for term in step.args for source in values[term])  # type: ignore[index]
            else:
                kind = getattr(step.target, "__name__", str(step.target))
                does = f"uses the tensor {step.target}" if step.op == "get_attr" else f"calls {kind}"
                advice = _LOOP if step.op == "get_attr" else _INSTEAD.get(kind, "use a layer for it, or leave it out")
                self.refuse(module, path, f"its forward {does}; NIR knows modules and sums: {advice}")
        raise AssertionError("a graph without output")

    def earlier(self, delay: Any, path: str, before: str) -> tuple[str, ...]:
        """The nodes that give what ``delay.read()`` does: the input of the step before, and the rest of the delay."""
        if delay.learned or not delay.whole or delay.least < 1:
            self.refuse(delay, path, "its delay is no whole number of steps; build it with fixed delays of some dt")
        rest = delay.delay.double() - delay.dt
        if bool((rest.abs() < 1e-3 * delay.dt).all()):
            return (before,)
        name = f"{path}_read"
        while name in self.nodes:
            name += "_"
        given = rest.expand(delay.size).cpu().numpy().clip(0)
        self.nodes[name] = self.nir.Delay(delay=given * neurons.MS)
        self.edges.append((before, name))
        return (name,)

    def node(self, m: Any, path: str) -> Any:
        """The node of a module without inner structure; None if there is none."""
        nir = self.nir
        if getattr(m, "exact", False):
            self.refuse(m, path, "exact=True has no field in NIR; build it without")
        if type(m) in neurons.WRITERS:
            return neurons.write(m)
        if isinstance(m, CUBA):
            self.refuse(m, path, "its scale is not 1 mV; multiply the weights by it")
        if isinstance(m, Scale):
            return nir.Scale(scale=_numpy(m.scale))
        if isinstance(m, OneToOne) and m.bias is None:
            return nir.Scale(scale=_numpy(m.weight.expand(m.out_features)))
        if isinstance(m, (nn.Linear, Connection)):
            weight = m.weight if isinstance(m, nn.Linear) else m.matrix()
            if m.bias is None:
                return nir.Linear(weight=_numpy(weight))
            return nir.Affine(weight=_numpy(weight), bias=_numpy(m.bias))
        if isinstance(m, Sparse):
            return self.sparse(m, path)
        if isinstance(m, (nn.Conv1d, nn.Conv2d)):
            return self.convolution(m, path)
        if isinstance(m, nn.Flatten):
            return nir.Flatten({"input": None}, *(d - 1 if d > 0 else d for d in (m.start_dim, m.end_dim)))
        if isinstance(m, nn.AvgPool2d):
            if m.ceil_mode or not m.count_include_pad or m.divisor_override not in (None, 1):
                self.refuse(m, path, "NIR pools have no ceil_mode, count_include_pad=False or divisor_override")
            kind = nir.SumPool2d if m.divisor_override == 1 else nir.AvgPool2d
            return kind(*(np.array(_pair(value)) for value in (m.kernel_size, m.stride, m.padding)))
        return None

    def sparse(self, m: Sparse, path: str) -> Any:
        if m.delays is not None:
            self.refuse(m, path, "NIR has no delays of single synapses; delay the spikes with nd.Delay")
        if len(m.in_size) != 1 or len(m.out_size) != 1:
            self.refuse(m, path, f"its sizes are {m.in_size} and {m.out_size}, wanted one dimension each")
        matrix = m.weight.detach().new_zeros(m.out_size[0], m.in_size[0])
        matrix.index_put_((m.post_index.long(), m.pre_index), m.weight.detach().expand(len(m.indices)), accumulate=True)
        if m.bias is not None:
            return self.nir.Affine(weight=_numpy(matrix), bias=_numpy(m.bias))
        return self.nir.Linear(weight=_numpy(matrix))

    def convolution(self, m: Any, path: str) -> Any:
        if m.padding_mode != "zeros":
            self.refuse(m, path, f"NIR pads with zeros, not with padding_mode={m.padding_mode!r}")
        one = isinstance(m, nn.Conv1d)
        settings = {name: getattr(m, name) for name in ("stride", "padding", "dilation")}
        settings = {name: v[0] if one and isinstance(v, tuple) else v for name, v in settings.items()}
        bias = np.zeros(m.out_channels) if m.bias is None else _numpy(m.bias)
        kind = self.nir.Conv1d if one else self.nir.Conv2d
        weight = m.kernel() if isinstance(m, (ScaledWSConv1d, ScaledWSConv2d)) else m.weight
        return kind(input_shape=None, weight=_numpy(weight), groups=m.groups, bias=bias, **settings)

    def refuse(self, module: nn.Module, path: str, reason: str) -> Any:
        name = f"{type(module).__name__} {path!r}" if path else type(module).__name__
        raise NIRError(f"to_nir: {name} cannot be represented: {reason}")


def _row(module: nn.Module, path: str) -> list[tuple[str, nn.Module]] | None:
    """The modules that `module` calls one after the other, without those that do nothing; None if it is no row."""
    if isinstance(module, Projection):
        names = {id(child): name for name, child in module.named_children()}
        parts = [(names[id(part)], part) for part in module.stages()]
    elif type(module).forward is nn.Sequential.forward:
        parts = list(module.named_children())
    else:
        return None
    found = []
    for name, part in parts:
        inner = _row(part, _join(path, name))
        found += [(_join(path, name), part)] if inner is None else inner
    return [(name, part) for name, part in found if not _does_nothing(part)]


def _does_nothing(m: nn.Module) -> bool:
    if isinstance(m, CUBA):
        return bool((m.scale == 1).all())
    return isinstance(m, nn.Identity) or (isinstance(m, nn.Dropout) and not m.training)


def _read(name: str) -> Tensor:
    """Stands in a trace for ``read()`` of the delay `name`."""
    raise NotImplementedError


@contextlib.contextmanager
def _reads_traced(module: nn.Module, tracer: fx.Tracer) -> Iterator[None]:
    """Inside, ``read()`` of a delay is a step of the trace."""
    delays = {name: child for name, child in module.named_modules() if isinstance(child, Delay)}
    for name, delay in delays.items():
        vars(delay)["read"] = lambda name=name: tracer.create_proxy("call_function", _read, (name,), {})
    try:
        yield
    finally:
        for delay in delays.values():
            del vars(delay)["read"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().cpu().double().numpy()


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
