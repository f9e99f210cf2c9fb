"""Pure functions of tensors as graphs that hold for any batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils import _pytree as pytree

from .errors import BatchSpecialised, NotCompilable

aten = torch.ops.aten


class Layout(NamedTuple):
    """Shape, dtype and device of a tensor; a size of -1 - i stands for the i-th free size, batch dimensions first."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor, batch: tuple[int, ...] = ()) -> Layout:
        n = len(batch) if tuple(tensor.shape[: len(batch)]) == batch else 0
        return cls((*range(-1, -1 - n, -1), *tensor.shape[n:]), tensor.dtype, tensor.device)

    @classmethod
    def traced(cls, value: Tensor, symbols: Sequence[Any]) -> Layout:
        """That of a value in a graph, whose free sizes are `symbols`.

        Raises:
            BatchSpecialised: it has a size that is none of them.
        """
        expressions = [None if isinstance(size, int) else size.node.expr for size in value.shape]
        if any(e is not None and e not in symbols for e in expressions):
            raise BatchSpecialised
        shape = [n if e is None else -1 - symbols.index(e) for n, e in zip(value.shape, expressions, strict=True)]
        return cls(tuple(shape), value.dtype, value.device)

    def nbytes(self, batch: Sequence[int]) -> int:
        return math.prod(batch[-1 - n] if n < 0 else n for n in self.shape) * self.dtype.itemsize

    def empty(self, batch: Sequence[Any], *lead: int) -> Tensor:
        shape = [batch[-1 - n] if n < 0 else n for n in self.shape]
        return torch.empty((*lead, *shape), dtype=self.dtype, device=self.device)


def plain(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors as programs are traced with them: contiguous, and none that is only marked as negative."""
    found = list(map(Tensor.contiguous, tensors))
    return [tensor.resolve_neg() for tensor in found] if any(map(Tensor.is_neg, found)) else found


#: One kind of inputs of a function: the layout of each, and sizes in front of it.
Inputs = Sequence[tuple[Layout, tuple[int, ...]]]


def trace(function: Callable, free: Sequence[int], *inputs: Inputs) -> tuple[GraphModule, list[Tensor], list[Any]]:
    """The ATen graph of `function`, the fake inputs that it was traced with, and the symbols of the `free` sizes.

    Raises:
        BatchSpecialised: it does different things for different free sizes.
    """
    env = ShapeEnv(specialize_zero_one=False, duck_shape=False)
    batch, symbols = [], []
    for i, size in enumerate(free):
        source, hint = ConstantSource(f"size{i}"), max(size, 2)  # 1 would be taken for a broadcast dimension
        symbols.append(env.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC))
        batch.append(env.create_symintnode(symbols[-1], hint=hint, source=source))
    with FakeTensorMode(shape_env=env), torch.enable_grad():
        fakes = [[layout.empty(batch, *lead) for layout, lead in kind] for kind in inputs]
        flat, spec = pytree.tree_flatten(fakes)
        graph = make_fx(
            lambda *args: pytree.tree_leaves(function(*pytree.tree_unflatten(list(args), spec))),
            decomposition_table=select_decomp_table(),
        )(*flat)
    _without_writes_to_temporaries(graph)
    if symbols and not _holds_for_every_batch(env, symbols):
        raise BatchSpecialised
    return graph, flat, symbols


def _without_writes_to_temporaries(graph: GraphModule) -> None:
    """What torch does in place to a tensor that it has just made, as in some derivatives, gives a new one instead."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node, i in order.items():
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            continue
        name, overload = node.target._schema.name.removeprefix("aten::"), node.target._overloadname
        new = getattr(getattr(aten, name.removesuffix("_"), None), overload, None)
        written: Any = node.args[0]
        if name.endswith("_") and new is not None and _is_temporary(written, lambda user, i=i: order[user] > i):
            node.target = new
            written.replace_all_uses_with(node, lambda user, i=i: order[user] > i)


def _is_temporary(node: Any, is_later: Callable[[Any], bool]) -> bool:
    """Whether a tensor is no input, nor part of one, nor of another tensor that is used later."""
    while isinstance(node.target, torch._ops.OpOverload):
        if all(value.alias_info is None for value in node.target._schema.returns):
            return True
        node = node.args[0]
        if any(is_later(user) for user in node.users):
            return False
    return False


def _holds_for_every_batch(env: ShapeEnv, symbols: list[Any]) -> bool:
    """Whether what the trace assumed of the batch is true of any batch; that a size is not 1 may be assumed."""
    if any(symbol in env.replacements for symbol in symbols):
        return False
    return all(guard.expr.subs(dict.fromkeys(symbols, n)) for guard in env.guards for n in (2, 3, 97, 65537))


def refuse_impure(graph: GraphModule) -> None:
    """Refuse what cannot be computed again for the backward pass.

    Raises:
        NotCompilable: with the reason.
    """
    for node in graph.graph.nodes:
        target = node.target
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in target.tags or "inductor_random" in str(target):
            raise NotCompilable(
                f"its step draws random numbers ({target}), and the backward pass would draw others; "
                "draw them before the loop and pass them as inputs"
            )
        if target._schema.is_mutable:
            raise NotCompilable(f"its step writes to a tensor in place ({target})")
