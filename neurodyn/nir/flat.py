"""A NIR graph as one list of nodes and edges, without graphs inside it, and what `to_nir` noted about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.dynamics import as_dt
from .errors import NIRError

Edges = list[tuple[str, str]]


def opened(nir: Any, path: Path) -> Any:
    """The graph in a file."""
    if not path.is_file():
        raise FileNotFoundError(f"from_nir: no file {path}")
    try:
        return nir.read(path, type_check=False)
    except Exception as error:  # h5py and nir raise whatever they stumble upon
        raise NIRError(f"from_nir: {path} is not a readable NIR file: {type(error).__name__}: {error}") from error


def noted(dt: float | None, back: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What `Flat` finds again in the metadata of a graph."""
    notes: dict[str, Any] = {} if dt is None else {"dt_ms": dt}
    return {"neurodyn": notes | ({"back": json.dumps(list(back))} if back else {})}


class Flat:
    """Nodes and edges of a graph and of all graphs inside it.

    Attributes:
        nodes: by name; those of inner graphs are called "graph.node".
        edges: pairs of names.
        back: those edges of which the metadata say that they go back in time.
        times: the time steps that the metadata name, in ms.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.edges: Edges = []
        self.back: Edges = []
        self.times: set[float] = set()

    @classmethod
    def of(cls, nir: Any, graph: Any) -> Flat:
        flat, ports = cls(), []
        flat._add(nir, graph, "", ports)
        for name in {name for edge in flat.edges for name in edge} - flat.nodes.keys():
            raise NIRError(f"an edge names the node {name!r}, which is not there")
        for name in ports:
            flat._bridge(name)
        return flat

    def dt(self, given: Any) -> float | None:
        """The time step in ms: that of the file, or the given one; None if there is neither."""
        if len(self.times) > 1:
            raise NIRError(f"its parts were made with different time steps, {sorted(self.times)} ms; make them anew")
        held = next(iter(self.times), None)
        dt = held if given is None else as_dt(given, "from_nir: dt")
        if held is not None and dt != held:
            raise NIRError(f"the file was made with dt={held:g} ms and dt={dt:g} ms is given; leave dt out")
        return dt

    def _add(self, nir: Any, graph: Any, prefix: str, ports: list[str]) -> tuple[list[str], list[str]]:
        """Take over a graph; returns the names of its inputs and outputs."""
        entry: dict[str, tuple[str, str]] = {}
        for name, node in graph.nodes.items():
            if not isinstance(node, nir.NIRGraph):
                self.nodes[prefix + name] = node
                continue
            inputs, outputs = self._add(nir, node, f"{prefix}{name}.", ports)
            if (len(inputs), len(outputs)) != (1, 1):
                raise NIRError(
                    f"the graph {prefix + name!r} has {len(inputs)} inputs and {len(outputs)} outputs, not one"
                )
            entry[prefix + name] = inputs[0], outputs[0]
            ports += [inputs[0], outputs[0]]

        def through(a: str, b: str) -> tuple[str, str]:
            a, b = prefix + a, prefix + b
            return entry[a][1] if a in entry else a, entry[b][0] if b in entry else b

        self.edges += [through(a, b) for a, b in dict.fromkeys(map(tuple, graph.edges))]
        dt, back = _notes(graph)
        self.times |= {dt} if dt else set()
        self.back += [through(a, b) for a, b in back]
        kinds = (nir.Input, nir.Output)
        inputs, outputs = ([prefix + k for k, v in graph.nodes.items() if isinstance(v, kind)] for kind in kinds)
        return inputs, outputs

    def _bridge(self, name: str) -> None:
        """Replace the input or output of an inner graph by edges from what is before it to what is behind."""
        del self.nodes[name]
        before, after = [a for a, b in self.edges if b == name], [b for a, b in self.edges if a == name]
        across = [(a, b) for a in before for b in after]
        self.back += [(a, b) for a, b in across if (a, name) in self.back or (name, b) in self.back]
        self.edges = [edge for edge in self.edges if name not in edge] + across


def _notes(graph: Any) -> tuple[float | None, Edges]:
    """dt and back edges from the metadata; what is not as `noted` writes it does not count."""
    notes = graph.metadata.get("neurodyn") if isinstance(graph.metadata, Mapping) else None
    notes = notes if isinstance(notes, Mapping) else {}
    dt = notes.get("dt_ms")
    dt = float(dt) if isinstance(dt, (float, np.floating)) and 0 < dt < float("inf") else None
    try:
        back = [(str(a), str(b)) for a, b in json.loads(notes.get("back", "[]"))]
    except (ValueError, TypeError, RecursionError):
        back = []
    return dt, back
