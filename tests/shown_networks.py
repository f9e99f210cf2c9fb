"""What the code of a page runs over time, and whether it spikes and learns."""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn.neurons.base import Firing
from neurodyn.torch_private import tree_leaves, tree_map

STEPS = 100, 1000  # looked at, and where this shows nothing


class Shown:
    """The networks with spiking layers that `unroll` has got, each with inputs of its last call."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[nn.Module, Any]] = {}

    def note(self, module: Any, xs: Any) -> None:
        if isinstance(module, nn.Module) and any(isinstance(m, Firing) for m in module.modules()):
            if all(isinstance(x, Tensor) and type(x) in (Tensor, nn.Parameter) for x in tree_leaves(xs)):
                with torch.no_grad():
                    self.calls[id(module)] = module, tree_map(lambda x: x[: STEPS[-1]].detach().clone(), xs)

    def complaints(self) -> list[str]:
        """What is wrong with them, as they are now."""
        found = []
        for module, xs in self.calls.values():
            with warnings.catch_warnings(), torch.random.fork_rng():
                warnings.simplefilter("ignore")
                texts: list[str] = []
                for steps in STEPS:
                    texts = list(_complaints(module, tree_map(lambda x, steps=steps: x[:steps], xs)))
                    if not texts or steps >= len(tree_leaves(xs)[0]):
                        break
                found += [f"{type(module).__name__}: {text}" for text in texts]
        return found


def _complaints(module: nn.Module, xs: Any) -> Iterator[str]:
    torch.manual_seed(0)
    net = copy.deepcopy(module)
    firing = [_caller(net, name) for name, part in net.named_modules() if isinstance(part, Firing)]
    ys, recording = nd.unroll(net, xs, record=firing, compile=False, progress=False)
    for name in firing:
        if not bool(recording[name].values.any()):
            yield f"{name} {net.get_submodule(name)} is silent"
    outs = [y for y in tree_leaves(ys) if y.requires_grad]
    if outs:
        sum((y * torch.randn_like(y)).sum() for y in outs).backward()  # type: ignore[union-attr]
        for name, parameter in net.named_parameters():
            if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any())):
                yield f"{name} has no gradient"


def _caller(net: nn.Module, name: str) -> str:
    """The name of the layer that is called: a neuron, or the `Recurrent` around it."""
    around = name.rpartition(".")[0]
    return around if name and isinstance(net.get_submodule(around), nd.Recurrent) else name


@contextlib.contextmanager
def watched() -> Iterator[Shown]:
    """Inside, `unroll` notes what it gets."""
    home: Any = sys.modules["neurodyn.loop.unroll"]
    own, shown = home.unroll, Shown()

    def unroll(module: Any, xs: Any, **options: Any) -> Any:
        ys = own(module, xs, **options)
        shown.note(module, xs)
        return ys

    home.unroll = nd.unroll = unroll
    try:
        yield shown
    finally:
        home.unroll = nd.unroll = own
