"""Models that run over time themselves, with an `Unroll` or a call of `unroll` inside: they take whole sequences."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from ..core.states import named_dynamics
from ..core.trial import copy_of
from ..loop import Unroll
from ..loop.given import arguments_of
from ..tools.errors import quietly
from ..tools.generators import generators_kept


def unrolled(net: nn.Module) -> dict[str, Unroll]:
    """The `Unroll` modules of `net` by name, without those inside of others."""
    found: dict[str, Unroll] = {}
    for path, module in net.named_modules():
        inside = any(path.startswith(f"{outer}." if outer else "") for outer in found)
        if isinstance(module, Unroll) and not inside:
            found[path] = module
    return found


def runs_over_time(net: nn.Module, xs: Any) -> bool:
    """Whether `net` takes whole sequences, found by a call of a copy with `xs`: all layers then start anew in it.

    What takes one step goes on with the states that it has. Here these are of no batch, so that it stops at its first
    layer.
    """
    layers = {layer for _, layer in named_dynamics(net)}
    if layers and layers <= {module for part in unrolled(net).values() for module in part.modules()}:
        return True
    twin, called, started = copy_of(net), set(), set()
    for _, layer in named_dynamics(twin):

        def reset(*batch: int, layer: Any = layer) -> None:
            started.add(layer)
            type(layer).reset_state(layer, *batch)

        with contextlib.suppress(ValueError):  # parameters that differ between samples: it is told by the others
            layer.reset_state()
            layer.register_forward_hook(lambda layer, *_: called.add(layer))  # as a program it would not be called
            vars(layer)["reset_state"] = reset
    with contextlib.suppress(Exception), quietly(), generators_kept(), torch.no_grad():
        twin(*arguments_of(xs)[0])
        return bool(called) and called <= started
    return False


def check_steps(net: nn.Module, xs: Any, caller: str) -> None:
    """Refuse a network that takes whole sequences; `caller` names who runs it over time.

    Raises:
        ValueError: with the part to give instead.
    """
    if not runs_over_time(net, xs):
        return
    names = [
        "net" + "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in path.split(".") if key)
        for path in unrolled(net)
    ]
    part = " or ".join(f"{name}.module" for name in names) or "the one that its forward runs step by step"
    raise ValueError(
        f"{caller}: {type(net).__name__} already runs over time itself, wanted a network that takes one step; give the "
        f"part inside, {part}, and for xs what that part gets, time first"
    )
