"""Weights that learn and rings of delays: written in place inside a chunk."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.fx import Graph, Node

from ..ops import add_scaled  # noqa: F401, which makes the operator
from .graph_passes import add

aten, ops = torch.ops.aten, torch.ops.neurodyn

#: What changes a tensor, the same in place, and how a chunk takes it over; see `change_in_place`.
_CHANGES: dict[Any, tuple[Any, Any]] = {
    ops.event_add_pairs.default: (ops.event_add_pairs_.default, aten.copy_.default),
    ops.event_add_scaled.default: (ops.event_add_scaled_.default, aten.copy_.default),
    ops.event_deliver.default: (ops.event_deliver_.default, ops.event_move_.default),
}
_READERS = ops.event_matmul.default, ops.event_arrived.default
#: What reads others than its first argument.
_ADDERS = ops.event_add_scaled.default, ops.event_add_scaled_.default, aten.copy_.default


def change_in_place(graph: Graph) -> list[Node]:
    """Copy what `add_pairs`, `add_scaled` or `ring` of `neurodyn.ops` changes once a chunk, and change it there.

    The copy goes to where it comes out.

    Sound: whoever reads it in between makes something new of it, and does so before it is changed again. Gain: a change
    takes time for the synapses that it changes, not for a copy of all. Of a ring also the one copy is saved where it
    goes into a chunk and comes out in the same memory.

    Returns:
        The inputs where rings come out.
    """
    rings = []
    for write in [node for node in graph.nodes if node.target is aten.copy_.default]:
        target, last = cast("tuple[Node, Node]", write.args)
        chain = _chain(last, write)
        if not chain or target.op != "placeholder" or [*target.users] != [write]:
            continue
        _, take = _CHANGES[chain[0].target]
        source = cast(Node, chain[0].args[0])
        if take is not aten.copy_.default:
            later = any(chain[0] < user for user in source.users)  # who reads the old one later
            if source.op == "placeholder" and not later:
                rings.append(target)
            else:
                take = aten.copy_.default
        with graph.inserting_before(chain[0]):
            add(graph, take, (target, source), target.meta["val"] if take is aten.copy_.default else None)
        for node in chain:
            with graph.inserting_before(node):
                add(graph, _CHANGES[node.target][0], (target, *node.args[1:]), None)
            node.replace_all_uses_with(target)
            graph.erase_node(node)
        graph.erase_node(write)
    return rings


def _chain(last: Node, write: Node) -> list[Node]:
    """The changes one after the other that make `last`; empty if somebody may read one of them later than the next."""
    chain: list[Node] = []
    node: Any = last
    following = write
    while node.target in _CHANGES and _CHANGES[node.target][1] is _CHANGES[last.target][1]:
        others = [user for user in node.users if user is not following]
        if not all(_reads(user, node) and user < following for user in others):
            return []
        chain.append(node)
        node, following = node.args[0], node
    return chain[::-1]


def _reads(user: Node, weight: Node) -> bool:
    """Whether `user` makes something new of the weights, or copies them elsewhere."""
    return user.target in _READERS or (user.target in _ADDERS and user.args[0] is not weight)
