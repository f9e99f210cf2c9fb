"""The plain loop: the reference with which everything else is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import constants, get_states, pure, set_states
from ..torch_private import scan, tree_flatten, tree_leaves, tree_map, tree_unflatten


def plain_loop(
    net: nn.Module,
    arguments: tuple[Any, ...],
    start: Callable[[], Any] | None,
    after_first: Callable[[], Any],
    bar: Any,
) -> Any:
    """Call `net` once for each step, as a loop of one's own would; its states stay in its buffers.

    Args:
        arguments: of `net`, each tensor with time in front.
        start: takes the first step, if the states have to be set for it.
        after_first: called when the first step has worked.
    """
    ys = []
    for t in range(len(tree_leaves(arguments)[0])):
        ys.append(start() if t == 0 and start is not None else net(*tree_map(lambda x, t=t: x[t], arguments)))
        if t == 0:
            check_output(net, ys[0])
            after_first()
        bar.update(1)
    return stacked(ys)


def stacked(ys: list[Any]) -> Any:
    """The outputs of all steps, each tensor with time in front."""
    return tree_map(lambda *values: torch.stack(values), *ys)


def check_output(net: nn.Module, y: Any) -> None:
    """See that the output of a step consists of tensors.

    Raises:
        TypeError: it does not.
    """
    leaves = tree_leaves(y)
    if not leaves:
        raise TypeError(f"unroll: {type(net).__name__} returns no tensor in a step")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"unroll: {type(net).__name__} returns {leaf!r}, a {type(leaf).__name__}, in a step; wanted a tensor, "
                "or a tuple, list or dict of tensors"
            )


def exported_loop(net: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Inside torch.export: one scan over time in the graph that is being made, for any T.

    What is no floating point passes it as float64, in which integers are exact up to 2**53: the backward pass of
    torch's scan, up to torch 2.13, wants a gradient for each state and output.
    """
    start, fixed = get_states(net), constants(net)
    leaves, spec = tree_flatten(arguments)
    n, m, output_spec, dtypes = len(start), len(start) + len(leaves), None, []

    def step(*tensors: Tensor) -> list[Tensor]:
        nonlocal output_spec, dtypes
        given = {key: _as(x, old.dtype) for (key, old), x in zip(start.items(), tensors[:n], strict=True)}
        given |= dict(zip(fixed, tensors[m:], strict=False))
        y, states = pure(net, given, *tree_unflatten(tensors[n:m], spec))
        outs, output_spec = tree_flatten(y)
        found = *states.values(), *outs
        dtypes = [value.dtype for value in found]
        return [_floating(value).clone() for value in found]

    sizes = {size.node.expr: size for x in leaves for size in x.shape[1:] if isinstance(size, torch.SymInt)}
    further = (*fixed.values(), *sizes.values())  # AOTInductor looks for the sizes of the batch there
    found = scan(step, [_floating(value) for value in start.values()], leaves, further)
    found = [_as(value, dtype) for value, dtype in zip(found, dtypes, strict=True)]
    set_states(net, dict(zip(start, found[:n], strict=True)))
    return tree_unflatten(found[n:], output_spec)  # type: ignore[arg-type]


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value if value.dtype == dtype else value.to(dtype)


def _floating(value: Tensor) -> Tensor:
    return value if value.is_floating_point() or value.is_complex() else value.double()
