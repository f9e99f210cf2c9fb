"""How many threads a chunk is given on the CPU: where there is little to compute, to wait for others takes longer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..torch_private import elements
from .product_passes import is_called

#: Operations on single elements for each thread, some 10 us.
_GRAIN = 2**17
aten = torch.ops.aten
#: Operations that take as long as eight ordinary ones.
_SLOW = {aten.exp.default, aten.expm1.default, aten.log.default, aten.log1p.default, aten.tanh.default}


class Work:
    """How much a graph computes, for any free sizes.

    Args:
        graph: of a chunk.
        symbols: the free sizes in it.
    """

    def __init__(self, graph: fx.Graph, symbols: Sequence[Any]):
        self.symbols = list(symbols)
        self.terms: Counter[frozenset[Any]] = Counter()  # operations, by the sizes to multiply them by
        for node in graph.nodes:
            if node.op == "call_function":
                sizes, n = _operations(node)
                self.terms[sizes] += n

    def threads(self, sizes: Sequence[int]) -> int:
        """The most threads that are worth it for these free sizes."""
        known = dict(zip(self.symbols, sizes, strict=True))
        total = sum(n * math.prod(known.get(symbol, 1) for symbol in symbols) for symbols, n in self.terms.items())
        return max(1, total // _GRAIN)


def _operations(node: fx.Node) -> tuple[frozenset[Any], int]:
    """The number of operations of a node, as the sizes to multiply and a number."""
    value = node.meta.get("val")
    given = [elements(x.meta["val"]) for x in node.all_input_nodes if isinstance(x.meta.get("val"), Tensor)]
    own = [elements(value)] if isinstance(value, Tensor) else []
    if not own:
        return frozenset(), 0
    sizes, n = max((*given, *own), key=lambda found: (len(found[0]), found[1]))
    if is_called(node.target) and len(given) > 1:
        (_, left), (_, right) = sorted(given, key=lambda found: found[1])[-2:]
        n = max(n, math.isqrt(left * right * own[0][1]) * len(given) // 2)  # of (m, k) and (k, n) to (m, n)
    return sizes, 8 * n if node.target in _SLOW else n
