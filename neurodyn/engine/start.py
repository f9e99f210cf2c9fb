"""Initial states for a module that is about to be unrolled."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from ..dynamics import Dynamics, UnsetState
from ..states import named_dynamics

#: For each composite module and shape of its input, the batch shape of every layer inside.
_seen: weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[str, tuple[int, ...]]]] = weakref.WeakKeyDictionary()


class _Shaped(NamedTuple):
    """What `Dynamics.batch_of` asks of an input, without a step of the graph for it."""

    shape: tuple[int, ...]


def reset_for(net: nn.Module, xs: tuple[Any, ...]) -> None:
    """Reset the states of `net` for the batch of its inputs, which have time in front.

    A layer, or a row of layers, has the batch of its input. Inside any other module the layers may see inputs of
    other shapes, so one step is tried, without gradients and without a trace in the module.
    """
    first, found = net[0] if isinstance(net, nn.Sequential) else net, named_dynamics(net)
    if isinstance(first, Dynamics):
        plain = type(first).batch_of is Dynamics.batch_of
        batch = first.batch_of(_Shaped(xs[0].shape[1:]) if plain else xs[0][0])
        for _, module in found:
            module.reset_state(*batch)
        return
    if torch.compiler.is_exporting():  # a step cannot be tried, so the batch has the rank of the states at hand
        shape = pytree.tree_leaves(xs)[0].shape[1:]
        batches = {name: tuple(shape[: len(module.batch)]) for name, module in found}
    else:
        shapes = tuple(leaf.shape[1:] for leaf in pytree.tree_leaves(xs))
        known = _seen.setdefault(net, {})
        if shapes not in known:
            known[shapes] = _try_step(net, pytree.tree_map(lambda x: x[0], xs))
        batches = known[shapes]
    for name, module in found:
        module.reset_state(*batches[name])


def _try_step(net: nn.Module, arguments: tuple[Any, ...]) -> dict[str, tuple[int, ...]]:
    modules = dict(named_dynamics(net))
    leaf = pytree.tree_leaves(arguments)[0]
    ranks = {len(module.batch) for module in modules.values() if module.is_set}
    for module in modules.values():
        module.unset_state()
    with torch.no_grad(), torch.random.fork_rng():
        try:
            _step(net, arguments)
        except (UnsetState, AttributeError, TypeError):  # the latter two from a state that is None
            # A state is read before the layer has seen an input, as in a recurrent loop: every layer gets the batch of
            # the input, with as many dimensions as the last reset had, if a step works with it, or all but the last.
            rank = ranks.pop() if len(ranks) == 1 else leaf.dim() - 1
            if rank != leaf.dim() - 1 and not _works(net, tuple(leaf.shape[:rank]), arguments):
                rank = leaf.dim() - 1
            return dict.fromkeys(modules, tuple(leaf.shape[:rank]))
    return {name: module.batch for name, module in modules.items()}


def _works(net: nn.Module, batch: tuple[int, ...], arguments: tuple[Any, ...]) -> bool:
    for _, module in named_dynamics(net):
        module.reset_state(*batch)
    try:
        _step(net, arguments)
    except (ValueError, RuntimeError):  # shapes that do not fit
        return False
    return True


def _step(net: nn.Module, arguments: tuple[Any, ...]) -> None:
    """One step that leaves the states of `net` as they are."""
    functional_call(net, {name: buffer.clone() for name, buffer in net.named_buffers()}, arguments)
