"""Layers inside a module that runs as a compiled program: a copy shows whether they are silent, twice in training."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.silence import LOOKS, STUCK, WORKS, Evidence, is_settled, last_of, say, settle_layer
from ..core.states import held_states, named_dynamics, set_states
from ..core.trial import copy_of
from ..tools.errors import quietly
from ..tools.generators import generators_kept
from ..torch_private import backward_pass, stands_for_many, tree_leaves, tree_map, without_saved_tensor_hooks

#: After so many training calls a copy takes the same steps; a layer is said if it was stuck each time.
LOOKED_AT = (5, 10)
_STEPS, _WINDOW = 1000, 50  # it takes at most so many steps, the last of them with gradients


class _Look:
    """What has been seen of a module: calls, those with a backward pass, how often a copy ran, and who was stuck."""

    def __init__(self) -> None:
        self.calls = self.passes = self.looks = 0
        self.came: list[Tensor] = []
        self.stuck: dict[nn.Module, Tensor | None] = {}


_looks: weakref.WeakKeyDictionary[nn.Module, _Look | None] = weakref.WeakKeyDictionary()


def settle_last(layer: nn.Module) -> None:
    """Leave a layer, or the last of some that run together, to `neurodyn.core.silence.look`."""
    last: Any = last_of(layer)
    if getattr(last, "emits_spikes", False) is True and not is_settled(last):
        settle_layer(last)
        settle_layer(getattr(last, "cell", last))


def look_inside(net: nn.Module, row: Sequence[nn.Module], xs: tuple[Any, ...], ys: Any, reset: bool) -> None:
    """Look at the layers inside of modules that have run over time.

    Args:
        net: names the layers.
        row: modules that have run one after the other, each of them over some steps or all.
        xs, ys: input of the first and output of the last, with time in front.
        reset: whether they started from their initial states.
    """
    if (found := _looks.get(row[-1], _NEW)) is None or backward_pass() != -1:
        return
    outs = [y for y in tree_leaves(ys) if isinstance(y, Tensor) and y.grad_fn is not None and y.numel()]
    if not outs or any(y.is_cuda and torch.cuda.is_current_stream_capturing() for y in outs):
        return
    if found is _NEW:
        meant = any(_is_meant(module) for layer in row for module in layer.modules())
        found = _looks[row[-1]] = _Look() if meant else None
    if found is None:
        return
    found.calls += 1
    found.passes += any([bool(one) for one in found.came])
    found.came.clear()
    if found.passes >= LOOKED_AT[found.looks]:
        stuck = _stuck(row, xs, reset)
        found.stuck = {layer: V for layer, V in stuck.items() if not found.looks or layer in found.stuck}
        found.looks += 1
        if found.looks == len(LOOKED_AT):
            for layer, V in found.stuck.items():
                say(net, layer, f"training calls {' and '.join(map(str, LOOKED_AT))}", V)
        if found.looks == len(LOOKED_AT) or not found.stuck:
            _looks[row[-1]] = None
            return
    if found.calls > LOOKS:
        _looks[row[-1]] = None
        return

    def came(grad: Tensor | None) -> None:
        if grad is not None and not stands_for_many((grad,)):
            found.came.append(grad.detach().any())

    for y in outs:
        y.register_hook(came)


_NEW = _Look()


def _stuck(row: Sequence[nn.Module], xs: tuple[Any, ...], reset: bool) -> dict[nn.Module, Any]:
    """The layers inside that are silent and let no gradient pass, each with its highest potential at the end."""
    whole = row[0] if len(row) == 1 else nn.Sequential(*row)
    with quietly(), generators_kept(), without_saved_tensor_hooks():
        try:
            return _found(whole, xs, reset)
        except Exception:  # a copy cannot be made, or takes no steps: then nothing is known
            return {}


def _is_meant(module: nn.Module) -> bool:
    return isinstance(module, Dynamics) and module.emits_spikes and module.training and not is_settled(module)


def _found(whole: nn.Module, xs: tuple[Any, ...], reset: bool) -> dict[nn.Module, Any]:
    twin = copy_of(whole)
    meant = {copied: own for own, copied in zip(whole.modules(), twin.modules(), strict=True) if _is_meant(own)}
    for _, layer in named_dynamics(twin) if reset else ():
        if layer.is_set:
            layer.reset_state(*layer.batch)
    T = min(_STEPS, len(tree_leaves(xs)[0]))
    start = max(0, T - _WINDOW)
    states = _silent(twin, meant, xs, T, start)
    if not meant:
        return {}
    set_states(twin, states)
    evidence = {layer: Evidence() for layer in meant}
    with _called(evidence, lambda layer, x, y: _add(evidence[layer], x, y)), torch.enable_grad():
        leaves = tree_map(lambda x: x[start:T].detach().requires_grad_(x.requires_grad), xs)
        outs = [y for t in range(T - start) for y in tree_leaves(twin(*tree_map(lambda x, t=t: x[t], leaves)))]
        outs = [y for y in outs if isinstance(y, Tensor) and y.requires_grad]
        wanted = [x for x in (*tree_leaves(leaves), *twin.parameters()) if x.requires_grad]
        torch.autograd.grad(outs, wanted, [torch.randn_like(y) for y in outs], allow_unused=True)
    found = {}
    for layer, own in meant.items():
        if (verdict := evidence[layer].verdict()) is not None and verdict.item() == STUCK:
            V = layer._buffers.get("V")
            found[own] = None if V is None else V.detach().amax()
        elif verdict is not None and verdict.item() == WORKS:
            settle_layer(own)
    return found


@torch.no_grad()
def _silent(twin: nn.Module, meant: dict[nn.Module, nn.Module], xs: Any, T: int, start: int) -> dict[str, Tensor]:
    """Leave in `meant` those that stay silent; returns the states after `start` steps."""
    spiked: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, x: Any, y: Any) -> None:
        found = y.any() if isinstance(y, Tensor) else torch.tensor(True)
        spiked[layer] = spiked[layer] | found if layer in spiked else found

    states: dict[str, Tensor] = {}
    with _called(meant, note):
        for t in range(T):
            if t == start:
                states = held_states(twin)
            twin(*tree_map(lambda x, t=t: x[t].detach(), xs))
            if t % 8 == 0 or t == T - 1:
                for layer in [layer for layer in meant if layer in spiked and bool(spiked[layer])]:
                    settle_layer(meant.pop(layer))
                if not meant:
                    break
    for layer in [layer for layer in meant if layer not in spiked]:  # such as a cell, whose step another layer calls
        del meant[layer]
    return states


@contextlib.contextmanager
def _called(layers: Any, function: Any) -> Iterator[None]:
    """Inside, ``function(layer, input, output)`` is called after each call of one of the layers."""
    hooks = [
        layer.register_forward_hook(lambda module, xs, y: function(module, xs[0] if xs else None, y))
        for layer in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(evidence: Evidence, x: Any, y: Any) -> None:
    if all(isinstance(value, Tensor) and value.grad_fn is not None for value in (x, y)):
        evidence.add(x, y)
