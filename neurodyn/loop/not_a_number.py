"""`unroll` says once of a network that a state has become NaN, and finds the step on a copy."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.not_a_number import may_be_nan, nan_in, say_nan
from ..core.states import get_states, held_states, named_dynamics, set_states
from ..core.trial import copy_of
from ..tools.errors import quietly
from ..tools.generators import generators_kept
from ..torch_private import tree_leaves, tree_map, without_saved_tensor_hooks

#: A copy takes at most so many steps, one by one.
STEPS = 5000
#: Larger states, such as memories of delays, are not looked at, unless the inputs are as large: what comes out of them
#: shows in the others.
SIZE = 2**16

_said: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def look_for_nan(net: nn.Module, xs: Any, given: Mapping[str, Tensor] | None) -> None:
    """Say it, if a state of `net` is NaN and was not before; on the CPU, as a GPU would have to be waited for.

    Args:
        net: has run over time.
        xs: its inputs, time first.
        given: its states before; None if they were reset.
    """
    buffers = [layer._buffers[name] for _, layer in named_dynamics(net) for name in layer.states]
    if not any([value is not None and _is_suspect(value, xs) for value in buffers]) or net in _said:
        return
    states = held_states(net)
    before = [] if given is None else nan_in(given)
    if not (names := [name for name in nan_in(states) if name not in before]):
        return
    _said.add(net)
    T = tree_leaves(xs)[0].shape[0]
    when, hint = "after the last step,", "look at its inputs, and at dt"
    broken = [name for name, value in net.named_parameters() if bool(value.isnan().any())]
    if broken:
        hint = f"the parameter {broken[0]!r} is NaN, which an update has made so, or whoever set it"
    elif not _lasting(net, names) and (found := _first(net, xs, given, min(T, STEPS), before)) is not None:
        step, states, names = found
        dt = named_dynamics(net)[0][1].dt
        when, hint = f"from step {step} on, at {(step + 1) * dt:g} ms,", "look at its input in that step, and at dt"
    say_nan("unroll", net, states, names, when, hint)


def _is_suspect(value: Tensor, xs: Any) -> bool:
    """Whether a state has to be looked at closely."""
    if not value.is_cpu or (value.numel() > SIZE and value.numel() > max(x.numel() for x in tree_leaves(xs))):
        return False
    return may_be_nan(value)


def _lasting(net: nn.Module, names: list[str]) -> bool:
    """Whether one of the states goes on from call to call, so that its value from before is gone."""
    lasting = [
        f"{path}.{name}".removeprefix(".")
        for path, m in named_dynamics(net)
        for name in m.states
        if m.states[name].lasting
    ]
    return any(name in lasting for name in names)


def _first(
    net: nn.Module, xs: Any, given: Mapping[str, Tensor] | None, T: int, before: list[str]
) -> tuple[int, dict[str, Tensor], list[str]] | None:
    """The first step after which a state is NaN, the states and the names of these; None if it cannot be found."""
    with quietly(), generators_kept(), without_saved_tensor_hooks(), torch.no_grad():
        with contextlib.suppress(Exception):  # a copy cannot be made, or takes no step by itself
            twin = copy_of(net)
            for _, layer in named_dynamics(twin):
                layer.reset_state(*layer.batch)
            if given is not None:
                set_states(twin, {name: value.detach().clone() for name, value in given.items()})
            arguments = xs if isinstance(xs, tuple) else (xs,)
            for t in range(T):
                twin(*tree_map(lambda x, t=t: x[t].detach(), arguments))
                states = get_states(twin)
                if names := [name for name in nan_in(states) if name not in before]:
                    return t, states, names
    return None
