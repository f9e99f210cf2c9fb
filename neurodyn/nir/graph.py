"""`Graph`: the network of a NIR graph that is no chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

Edges = Sequence[tuple[str, str]]


class Graph(nn.Module):
    """A network whose nodes add up the outputs of the nodes that have an edge to them.

    The input and the output are the nodes "input" and "output", which have no module.

    Args:
        parts: the module of each node, in an order in which they can run.
        edges: pairs of names, (from, to).
        back: edges along which goes the output of the step before.
        held: for each node where such an edge starts, the `Delay` of one step that keeps its output.
    """

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        edges: Edges,
        back: Edges = (),
        held: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__()
        self.parts, self.held = nn.ModuleDict(parts), nn.ModuleDict(held or {})
        self.edges, self.back = tuple(edges), tuple(back)

    def forward(self, x: Tensor) -> Tensor:
        values = {"input": x}
        for name in (*self.parts, "output"):
            given = [values[a] for a, b in self.edges if b == name]
            given += [self.held[a].read() for a, b in self.back if b == name]  # type: ignore[operator]
            total = given[0]
            for value in given[1:]:
                total = total + value
            values[name] = self.parts[name](total) if name in self.parts else total
        for name, delay in self.held.items():
            delay(values[name])
        return values["output"]
