"""What a network does with given inputs: rates, potentials and gradients, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.fields import show
from ..core.states import held_states, named_dynamics
from ..core.trial import copy_of
from ..loop import unroll
from ..loop.given import arguments_of
from ..tools.errors import quietly
from ..tools.generators import generators_kept
from ..torch_private import tree_leaves, tree_map


class _Seen:
    """A forward hook of a spiking layer: spikes and potentials of all steps, and the gradient at its spikes."""

    def __init__(self) -> None:
        self.spikes: list[Tensor] = []
        self.V: list[Tensor] = []
        self.squares: list[Tensor] = []

    def __call__(self, layer: Any, args: Any, out: Tensor) -> None:
        self.spikes.append(out.detach())
        if "V" in layer.states:
            self.V.append(layer._buffers["V"].detach())
        if out.requires_grad:
            out.register_hook(lambda grad: self.squares.append(grad.detach().square().sum()))

    def lines(self, layer: Any) -> Iterator[str]:
        spikes = torch.stack(self.spikes)
        silent = (spikes.reshape(-1, *layer.size).sum(0) == 0).double().mean().item()
        yield f"  {1e3 / layer.dt * spikes.mean().item():.3g} Hz, {100 * silent:.3g} % of the neurons silent"
        if self.V:
            V, unit = torch.stack(self.V), layer.state_unit("V")
            threshold = f", threshold {show(layer.V_th.detach(), unit)}" if "V_th" in layer.params else ""
            yield f"  V: mean {V.mean().item():.3g} {unit:~}, at most {V.max().item():.3g} {unit:~}{threshold}"
        if self.squares:
            yield f"  gradient at its spikes: {torch.stack(self.squares).sum().sqrt().item():.2g}"


def probe(
    net: nn.Module, xs: Any, loss: Callable[[Any], Tensor], whole: bool
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """An entry for each module of `net` that spikes or has parameters, in the order of their names; shapes of states.

    A copy of `net` without its hooks runs over `xs` step by step: states, gradients, statistics and random numbers of
    `net` stay as they are. With `whole` it is called once, as it runs over time itself.
    """
    twin, xs = copy_of(net), tree_map(lambda x: x.detach(), xs)
    seen, hooks = {}, []
    for path, layer in named_dynamics(twin):
        if layer.emits_spikes and not isinstance(getattr(layer, "cell", None), Dynamics):
            seen[path] = _Seen()
            hooks.append(layer.register_forward_hook(seen[path]))
    with generators_kept(), torch.enable_grad(), quietly():
        twin.zero_grad()
        found = loss(twin(*arguments_of(xs)[0]) if whole else unroll(twin, xs, compile=False, progress=False))
        for hook in hooks:  # with checkpoint= steps are computed a second time
            hook.remove()
        if found.requires_grad:
            found.backward()
    shapes = {name: tuple(value.shape) for name, value in held_states(twin).items()}
    return list(_entries(twin, seen)), shapes


def _entries(twin: nn.Module, seen: dict[str, _Seen]) -> Iterator[str]:
    for path, module in twin.named_modules():
        lines = list(seen[path].lines(module)) if path in seen and seen[path].spikes else []
        for name, p in module.named_parameters(recurse=False):
            if p.requires_grad:
                lines.append(f"  gradient of {name}: {0.0 if p.grad is None else p.grad.norm().item():.2g}")
        if lines:
            label = module._label() if isinstance(module, Dynamics) else type(module).__name__
            yield f"{path}: {label}".removeprefix(": ")
            yield from lines


def total(ys: Any) -> Tensor:
    """The sum of all outputs."""
    return sum((y.sum() for y in tree_leaves(ys)), torch.zeros(()))
