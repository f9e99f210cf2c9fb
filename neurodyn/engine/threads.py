"""How many threads a chunk is given on the CPU: where there is little to compute, to wait for others takes longer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from .products import is_called

#: Operations on single elements for each thread, some 10 us.
_GRAIN = 2**17

#: A free size, as a symbol.
Symbol = Any

aten = torch.ops.aten
_SLOW = {aten.exp.default, aten.expm1.default, aten.log.default, aten.log1p.default, aten.tanh.default}  # 8 operations


class Work:
    """How much a graph computes, for any free sizes.

    Args:
        graph: traced.
        inputs: its fake inputs.
    """

    def __init__(self, graph: GraphModule, inputs: Sequence[Tensor]):
        self.terms: Counter[frozenset[Symbol]] = Counter()  # operations, by the sizes to multiply them by
        for node in graph.graph.nodes:
            if node.op == "call_function":
                sizes, n = _operations(node)
                self.terms[sizes] += n
        sizes = [(size, i, k) for i, x in enumerate(inputs) for k, size in enumerate(x.shape)]
        self.places = {size.node.expr: (i, k) for size, i, k in sizes if not isinstance(size, int)}

    def threads(self, inputs: Sequence[Tensor]) -> int:
        """The most threads that are worth it for these inputs."""
        sizes = {symbol: inputs[i].shape[k] for symbol, (i, k) in self.places.items()}
        total = sum(n * math.prod(sizes.get(symbol, 1) for symbol in symbols) for symbols, n in self.terms.items())
        return max(1, total // _GRAIN)


def _operations(node: Node) -> tuple[frozenset[Symbol], int]:
    """For a node that makes a tensor, or writes to one, the number of its operations."""
    value = node.meta.get("val")
    given = [_elements(x.meta["val"]) for x in node.all_input_nodes if isinstance(x.meta.get("val"), Tensor)]
    own = [_elements(value)] if isinstance(value, Tensor) else []
    if not (given or own) or isinstance(value, torch.SymInt):
        return frozenset(), 0
    sizes, n = max((*given, *own), key=lambda found: (len(found[0]), found[1]))
    if is_called(node.target) and len(given) > 1 and own:
        (_, left), (_, right) = sorted(given, key=lambda found: found[1])[-2:]
        n = max(n, math.isqrt(left * right * own[0][1]) * len(given) // 2)  # of (m, k) and (k, n) to (m, n)
    return sizes, 8 * n if node.target in _SLOW else n


def _elements(tensor: Tensor) -> tuple[frozenset[Symbol], int]:
    """About the number of elements: free sizes, and what they are to be multiplied by."""
    symbols: set[Symbol] = set()
    n = 1
    for size in tensor.shape:
        if isinstance(size, int):
            n *= size
        else:
            expression = size.node.expr
            symbols |= expression.free_symbols
            n *= int(expression.as_coeff_Mul()[0])
    return frozenset(symbols), n
