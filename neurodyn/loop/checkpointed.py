"""A sequence in blocks of steps, each of which is computed again for the backward pass.

Memory goes with the number of blocks and the length of one; time is that of one more forward pass. Source: Chen, Xu,
Zhang and Guestrin (2016), Training deep nets with sublinear memory cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from ..core.states import constants, get_states, named_dynamics, pure, set_states, settle, uninitialized
from ..purity.unchanged import Unchanged
from ..tools.errors import warn_once
from ..tools.memory import GiveBack
from ..tools.progress import Quiet
from ..torch_private import tree_flatten, tree_leaves, tree_map, tree_unflatten
from .layers import NORMS, layers, runs_on_all_steps
from .rows import Mode, run_row


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


class _Row(nn.Module):
    """Layers over some steps, as a module whose states and parameters `pure` can pass in and out."""

    def __init__(self, row: Sequence[nn.Module], compile: bool):
        super().__init__()
        self.row, self.compiled, self.bar = nn.ModuleList(row), compile, Quiet()

    def forward(self, again: Unchanged | None, *xs: Any) -> Any:
        changed = None if again is None else again.change()  # here parameters are those of the forward pass
        if changed:
            raise RuntimeError(
                f"unroll(checkpoint=...): the backward pass computes the steps again, but {changed} has changed since "
                "they were first computed, by a later step or after the forward pass; call backward before the change, "
                "change a clone, or leave out checkpoint="
            )
        before = constants(self)
        ys = run_row(list(self.row), xs, Mode(self.compiled, self.bar))[0]
        if assigned := [name for name, value in constants(self).items() if before.get(name) is not value]:
            raise RuntimeError(
                f"unroll(checkpoint=...): a step assigns {assigned[0].split('.', 2)[2]}, which no step of the "
                "first block did; leave out checkpoint=, or declare it as a state"
            )
        return ys


def in_blocks(row: Sequence[nn.Module], xs: tuple[Any, ...], steps: int, mode: Mode) -> Any:
    """`run_row`, for the backward pass of which only the states at the beginning of each block are kept.

    The first block is not computed again: it shows whether the steps change anything but states. If they do, which
    would happen a second time in the backward pass, no block is, and a warning says so.
    """
    if lazy := next((found for layer in row if (found := uninitialized(layer))), None):
        warn_once(f"unroll(checkpoint=...) keeps all steps of this call, which makes the parameters of {lazy}")
        return run_row(row, xs, mode)[0]
    mode, later = mode._replace(attached=True), Mode(mode.compile, mode.bar)
    leaves, spec = tree_flatten(xs)
    blocks = [tree_unflatten(list(part), spec) for part in zip(*(leaf.split(steps) for leaf in leaves), strict=True)]
    net, before = _Row(row, mode.compile), None
    settle(net)  # what follows from an edited delay is no effect of the first step
    fixed = constants(net)
    if torch.is_grad_enabled() and len(blocks) > 1:
        inputs = {f"input {i}": leaf for i, leaf in enumerate(leaves)}
        before = Unchanged(row, {name.removeprefix("row."): value for name, value in fixed.items()} | inputs)
    first = run_row(row, blocks[0], mode)[0]
    if before is not None and (changed := before.effect()):
        before = None
        warn_once(
            f"unroll(checkpoint=...) keeps all steps for the backward pass, because a step changes {changed}, "
            "and would do so again if it were computed again",
        )
    if before is not None and (waiting := [layer for _, layer in named_dynamics(net) if not layer.is_set]):
        before = None
        warn_once(
            "unroll(checkpoint=...) keeps all steps for the backward pass, because no step of the first block calls "
            f"{waiting[0]._label()}, which has no state then"
        )
    if before is None:
        return _joined([first, *(run_row(row, block, later)[0] for block in blocks[1:])])
    states, known, memory = get_states(net), set(), GiveBack()

    def run(i: int, block: tuple[Any, ...], *values: Tensor) -> tuple[Any, list[Tensor]]:
        memory.before(tree_leaves(block))
        net.bar = Quiet() if i in known else mode.bar  # the second time is part of the backward pass
        again = before if i in known else None
        known.add(i)
        ys, new = pure(net, fixed | dict(zip(states, values, strict=True)), again, *block)
        return ys, [new[name] for name in states]

    values, outs = list(states.values()), [first]
    for i, block in enumerate(blocks[1:]):
        ys, values = checkpoint(run, i, block, *values, use_reentrant=False)  # type: ignore[misc]
        outs.append(ys)
    set_states(net, dict(zip(states, values, strict=True)))
    return _joined(outs)


def _joined(blocks: Iterable[Any]) -> Any:
    return tree_map(lambda *ys: torch.cat(ys), *blocks)
