"""Work that depends on constants alone, such as exp(-dt / tau), taken out of a compiled chunk.

On a GPU only large values are: a kernel that waits for memory computes a small one in no time, and a launch takes some.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch.fx import Graph, GraphModule, Node

from .prologue import Prologue
from .share import sum_last

aten = torch.ops.aten
_CHEAP = aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default, aten.abs.default
_OUTPUTS = (aten.copy_.default,)
_LARGE = 2**20  # elements


def fold(graph: GraphModule, inputs: list[Tensor], constants: range) -> tuple[Prologue, GraphModule, list[Tensor]]:
    """Split `graph` into a prologue, which runs once, and the rest.

    Args:
        graph: functional, except for writes to its inputs.
        inputs: its fake inputs.
        constants: which of them keep their value from call to call.

    Returns:
        The prologue; the rest, with the values as further inputs; its fake inputs.
    """
    whole = fx_graph_cse(graph.graph)
    sum_last(whole)
    placeholders = inputs_of(whole)
    known = computed_once(whole, constants)
    nodes = dict.fromkeys(  # constants of no input, such as aten.full, are made on both sides
        other for node in known if node.op == "call_function" for other in (*node.all_input_nodes, node)
    )
    worth = _without_cheap(known) if all(tensor.device.type == "cpu" for tensor in inputs) else _without_small(known)
    # What the chunk returns becomes a state, so that it must be new each time.
    worth = {n: None for n in worth if n.op != "call_function" or all(user.op != "output" for user in n.users)}
    values = [n for n in worth if n.op == "call_function" and any(user not in worth for user in n.users)]
    positions = {placeholders[index]: i for i, index in enumerate(constants)}
    prologue = Prologue(positions, [node for node in nodes if node not in positions], values)
    last = placeholders[-1]
    for i, node in enumerate(values):
        with whole.inserting_after(last):
            last = whole.placeholder(f"value{i}")
        last.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(last, lambda user: user not in worth)
    whole.eliminate_dead_code(has_effect)
    return prologue, GraphModule(graph, whole), [*inputs, *(node.meta["val"] for node in values)]


def inputs_of(graph: Graph) -> list[Node]:
    """The inputs of a graph, in order."""
    return [node for node in graph.nodes if node.op == "placeholder"]


def computed_once(graph: Graph, constants: range) -> dict[Node, None]:
    """The inputs `constants` and what `fold` takes out: computed from them, and not cheaper to compute than to read."""
    inputs = inputs_of(graph)
    known = dict.fromkeys(inputs[i] for i in constants)  # in order, as compiled graphs are found by their text
    if any(has_effect(node) and node.op == "call_function" and node.target not in _OUTPUTS for node in graph.nodes):
        return known  # something is written to twice, so that the order matters
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op != "call_function" or not sources or not isinstance(node.meta.get("val"), Tensor):
            continue
        if _is_smaller(node, sources) and all(
            source in known or (not source.all_input_nodes and source.op == "call_function") for source in sources
        ):
            known[node] = None
    return known


def _is_smaller(node: Node, sources: list[Node]) -> bool:
    """Whether a value is no larger than the largest of those that it is computed from, for any batch."""
    sizes = [node.meta["val"].numel(), *(s.meta["val"].numel() for s in sources if isinstance(s.meta["val"], Tensor))]
    return all(isinstance(n, int) for n in sizes) and sizes[0] <= max(sizes[1:], default=0)


def _without_cheap(known: dict[Node, None]) -> dict[Node, None]:
    """`known` without sums and products of single values at its end: in the chunk they take less time than a call."""
    found = dict(known)
    for node in reversed(known):
        if node.target in _CHEAP and node.meta["val"].dim() == 0 and any(user not in found for user in node.users):
            del found[node]
    return found


def _without_small(known: dict[Node, None]) -> dict[Node, None]:
    """`known` without what is computed from small values alone."""
    found: dict[Node, None] = {}
    for node in known:
        if _is_large(node) or any(source in found or _is_large(source) for source in node.all_input_nodes):
            found[node] = None
    return found


def _is_large(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and isinstance(n := value.numel(), int) and n >= _LARGE


def has_effect(node: Node) -> bool:
    """Whether a node must stay though nobody uses its value."""
    return node.op in ("placeholder", "output") or getattr(getattr(node.target, "_schema", None), "is_mutable", False)
