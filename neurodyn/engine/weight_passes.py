"""Weights that learn: written in place inside a chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from .graph_passes import add

aten, ops = torch.ops.aten, torch.ops.neurodyn


def learn_in_place(graph: Graph) -> None:
    """Copy weights that `neurodyn.ops.add_pairs` changes once a chunk, to where they come out, and change them there.

    Sound: whoever reads the weights in between makes something new of them, and does so before they are changed again.
    Gain: a change takes time for the synapses that it changes, not for a copy of all.
    """
    for write in [node for node in graph.nodes if node.target is aten.copy_.default]:
        target, last = write.args
        chain = _chain(last, write)
        if not chain or target.op != "placeholder" or [*target.users] != [write]:
            continue
        with graph.inserting_before(chain[0]):
            add(graph, aten.copy_.default, (target, chain[0].args[0]), target.meta["val"])
        for node in chain:
            with graph.inserting_before(node):
                add(graph, ops.event_add_pairs_.default, (target, *node.args[1:]), None)
            node.replace_all_uses_with(target)
            graph.erase_node(node)
        graph.erase_node(write)


def _chain(last: Node, write: Node) -> list[Node]:
    """The changes one after the other that make `last`; empty if somebody may read one of them later than the next."""
    chain: list[Node] = []
    node: Any = last
    following = write
    while node.target is ops.event_add_pairs.default:
        others = [user for user in node.users if user is not following]
        if not all(_reads(user, node) and user < following for user in others):
            return []
        chain.append(node)
        node, following = node.args[0], node
    return chain[::-1]


def _reads(user: Node, weight: Node) -> bool:
    """Whether `user` makes something new of the weights, or copies them elsewhere."""
    if user.target is ops.event_matmul.default:
        return True
    return user.target is aten.copy_.default and user.args[0] is not weight
