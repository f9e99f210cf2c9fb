"""A sequence in blocks of steps, each of which is computed again for the backward pass.

Memory goes with the number of blocks and the length of one; time is that of one more forward pass. Source: Chen, Xu,
Zhang and Guestrin (2016), Training deep nets with sublinear memory cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from ..core.states import get_states, named_dynamics, pure, set_states
from ..engine.memory import GiveBack
from ..tools.generators import generators_kept
from ..tools.progress import Quiet
from ..torch_private import tree_flatten, tree_leaves, tree_map, tree_unflatten
from .layers import NORMS, layers, runs_on_all_steps
from .rows import Mode, run_row
from .start import reset_for


def rows(module: nn.Module, apart: bool) -> list[list[nn.Module]]:
    """The layers of `module` in rows that can take a sequence in blocks; with `apart`, each by itself.

    What keeps statistics in training, such as batch norm, takes them from all steps, once, and so stays by itself.
    """
    if apart:
        return [[layer] for layer in layers(module)]
    found: list[list[nn.Module]] = [[]]
    for layer in layers(module):
        alone = _keeps_statistics(layer)
        if alone and found[-1]:
            found.append([])
        found[-1].append(layer)
        if alone:
            found.append([])
    return [row for row in found if row]


def can_repeat(row: Sequence[nn.Module]) -> bool:
    """Whether `row` has states, and nothing that may not be computed twice."""
    return not all(runs_on_all_steps(layer) for layer in row) and not any(_keeps_statistics(layer) for layer in row)


def _keeps_statistics(layer: nn.Module) -> bool:
    parts = [part for part in layer.modules() if part.training]
    return any(isinstance(part, NORMS) or parametrize.is_parametrized(part) for part in parts)


def start(row: Sequence[nn.Module], xs: tuple[Any, ...]) -> None:
    """Reset the states in `row` for the batch of its input."""
    if len(row) == 1:
        if not runs_on_all_steps(row[0]):
            reset_for(row[0], xs)
        return
    with torch.no_grad(), generators_kept():  # the later layers learn their batch from one step
        first: Any = tree_map(lambda x: x[:1], xs)
        for layer in row:
            first = first if isinstance(first, tuple) else (first,)
            start([layer], first)
            first, _ = run_row([layer], first, Mode(False, Quiet()))
    for layer in row:
        for _, module in named_dynamics(layer):
            module.reset_state(*module.batch)


class _Row(nn.Module):
    """Layers over some steps, as a module whose states `pure` can pass in and out."""

    def __init__(self, row: Sequence[nn.Module], compile: bool):
        super().__init__()
        self.row, self.compiled, self.bar = nn.ModuleList(row), compile, Quiet()

    def forward(self, *xs: Any) -> Any:
        return run_row(list(self.row), xs, Mode(self.compiled, self.bar))[0]


def in_blocks(row: Sequence[nn.Module], xs: tuple[Any, ...], steps: int, compile: bool, bar: Any) -> Any:
    """`run_row`, for the backward pass of which only the states at the beginning of each block are kept."""
    net = _Row(row, compile)
    leaves, spec = tree_flatten(xs)
    states, known, memory = get_states(net), set(), GiveBack()

    def versions() -> list[int]:
        return [tensor._version for tensor in (*leaves, *net.parameters())]

    before = versions() if torch.is_grad_enabled() else []

    def block(i: int, block: tuple[Any, ...], *values: Tensor) -> tuple[Any, list[Tensor]]:
        memory.before(tree_leaves(block))
        net.bar = Quiet() if i in known else bar  # the second time is part of the backward pass
        if i in known and versions() != before:
            raise RuntimeError(
                "unroll(checkpoint=...): an input or a parameter was changed in place after the forward pass, which "
                "the backward pass computes again; call backward before the change, or pass a clone"
            )
        known.add(i)
        ys, new = pure(net, dict(zip(states, values, strict=True)), *block)
        return ys, list(new.values())

    values, outs = list(states.values()), []
    for i, part in enumerate(zip(*(leaf.split(steps) for leaf in leaves), strict=True)):
        part = tree_unflatten(list(part), spec)
        if torch.is_grad_enabled():
            ys, values = checkpoint(block, i, part, *values, use_reentrant=False)  # type: ignore[misc]
        else:
            ys, values = block(i, part, *values)
        outs.append(ys)
    set_states(net, dict(zip(states, values, strict=True)))
    return tree_map(lambda *ys: torch.cat(ys), *outs)
