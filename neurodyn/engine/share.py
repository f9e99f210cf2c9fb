"""Work that the steps of a chunk have in common: expressions of constants, and sums of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

aten = torch.ops.aten
_SUMS = aten.sum.default, aten.sum.dim_IntList
_LINEAR = *_SUMS, aten.view.default, aten.neg.default


class Share(TorchFunctionMode):
    """While a chunk is traced, give the same result for the same function of the same constants.

    The steps then share one node, so that gradients are summed over the steps before they go through it.

    Args:
        constants: tensors that are the same in every step.
    """

    def __init__(self, constants: Iterable[Tensor]):
        super().__init__()
        self.known = {id(tensor): tensor for tensor in constants}
        self.results: dict[Any, Tensor] = {}
        self.level = _level()

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not tensors or not all(id(tensor) in self.known for tensor in tensors) or _level() != self.level:
            return func(*args, **kwargs)
        key = (func, spec, torch.is_grad_enabled(), *(_key(leaf) for leaf in leaves))
        if key not in self.results:
            result = func(*args, **kwargs)
            if not isinstance(result, Tensor) or any(result is tensor for tensor in tensors):
                return result
            self.results[key] = self.known[id(result)] = result
        return self.results[key]


def _key(leaf: Any) -> Any:
    return (Tensor, id(leaf)) if isinstance(leaf, Tensor) else (type(leaf), leaf if leaf.__hash__ else id(leaf))


def _level() -> int:
    return torch._C._functorch.maybe_current_level() or 0  # type: ignore[attr-defined]


def sum_last(graph: Graph) -> None:
    """Rewrite sum(a) + sum(b) as sum(a + b), so that gradients are added up over the steps before they are reduced."""
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs or not all(isinstance(term, Node) for term in node.args):
            continue
        links: list[Node] = []
        left: Any
        right: Any
        left, right = node.args
        while _alike(left, right):
            links.append(left)
            left, right = left.args[0], right.args[0]
        if not any(link.target in _SUMS for link in links):
            continue
        with graph.inserting_before(node):
            total = graph.call_function(aten.add.Tensor, (left, right))
            total.meta["val"] = left.meta["val"]
            for link in reversed(links):
                total = graph.call_function(link.target, (total, *link.args[1:]), link.kwargs)  # type: ignore[arg-type]
                total.meta["val"] = link.meta["val"]
        node.replace_all_uses_with(total)
        graph.erase_node(node)


def _alike(left: Any, right: Any) -> bool:
    """Whether two values come by the same linear function from values of one shape, and are used once."""
    return (
        left is not right
        and left.target is right.target
        and left.target in _LINEAR
        and len(left.users) == len(right.users) == 1
        and (left.args[1:], left.kwargs) == (right.args[1:], right.kwargs)
        and str(left.args[0].meta["val"].shape) == str(right.args[0].meta["val"].shape)
    )
