# ruff: noqa: NPY002  (what users write draws from the global generator)
"""Comparing the three ways to run a network over time."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import neurodyn as nd

WAYS = {
    "loop": lambda net, xs: by_hand(net, xs),
    "eager": lambda net, xs: nd.unroll(net, xs, compile=False),
    "compiled": lambda net, xs: nd.unroll(net, xs),
}


def by_hand(net: nn.Module, xs: Any, batch: tuple[int, ...] | None = None) -> Any:
    """What a user's own loop gives; the batch is all but the first and the last dimension of the input."""
    rows = (xs,) if isinstance(xs, Tensor) else xs
    nd.reset_states(net, *(rows[0].shape[1:-1] if batch is None else batch))
    outs = [net(*[x[t] for x in rows]) for t in range(len(rows[0]))]
    return pytree.tree_map(lambda *ys: torch.stack(ys), *outs)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The same network every time, and the same random numbers after it."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return make()


def seen(net: nn.Module, xs: Tensor, run: Callable[[nn.Module, Tensor], Any], look: Iterable[str]) -> list[tuple]:
    """Output, gradients, states and attributes, each with its name."""
    xs = xs.detach().clone().requires_grad_(xs.is_floating_point())
    ys = run(net, xs)
    leaves = [y for y in pytree.tree_leaves(ys) if isinstance(y, Tensor)]
    found = [(f"output {i}", y.detach()) for i, y in enumerate(leaves)]
    loss = sum((y * torch.linspace(0.5, 1.5, y.numel()).view_as(y)).sum() for y in leaves if y.requires_grad)
    if isinstance(loss, Tensor):
        inputs = {"input": xs} | dict(net.named_parameters())
        inputs = {name: value for name, value in inputs.items() if value.requires_grad}
        grads = torch.autograd.grad(loss, inputs.values(), allow_unused=True)
        for (name, value), grad in zip(inputs.items(), grads, strict=True):
            found.append((f"gradient of {name}", torch.zeros_like(value) if grad is None else grad))
    found += [(f"state {name}", value.detach()) for name, value in nd.get_states(net).items()]
    return found + [(name, looked(net, name)) for name in look]


def looked(net: nn.Module, name: str) -> Any:
    """An attribute of `net`, or of something inside, as it is now."""
    value: Any = net
    for part in name.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value.detach().clone() if isinstance(value, Tensor) else value


def same(
    make: Callable[[], nn.Module],
    xs: Tensor,
    *,
    look: Iterable[str] = (),
    calls: int = 1,
    between: Callable[[nn.Module], None] = lambda net: None,
    after: Callable[[], Any] | None = None,
    batch: tuple[int, ...] | None = None,
    tolerance: float = 1e-9,
) -> None:
    """The three ways agree on three equal networks, in each of several calls.

    Args:
        look: attributes that must be equal as well.
        between: what the user does between two calls.
        after: something else that must be equal after each call; it also puts it back.
        batch: of the states, for the loop.
    """
    found = {}
    for name, run in (WAYS | {"loop": lambda net, xs: by_hand(net, xs, batch)}).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nd.EagerWarning)
            net = seeded(make)
            found[name] = []
            for call in range(calls):
                if call:
                    between(net)
                found[name] += seen(net, xs, run, look)
            if after is not None:
                found[name].append(("what is left", after()))
    for name in ("eager", "compiled"):
        for (what, wanted), (_, got) in zip(found["loop"], found[name], strict=True):
            assert agree(wanted, got, tolerance), f"{name}: {what} is {got}, the loop gives {wanted}"


def agree(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two values are the same up to rounding."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if tolerance < 1e-5 and a.dtype == torch.float32:
            tolerance = 1e-4
        a, b = a.double(), b.double()
        return not a.numel() or bool((a - b).abs().max() <= tolerance * max(1.0, a.abs().max()))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(agree(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return a == b


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call, or its error, with what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            return error, str(error)
    return result, " ".join(str(warning.message) for warning in said)


def says(call: Callable[[], Any], *words: str) -> None:
    """An error or a warning with these words."""
    _, text = outcome(call)
    missing = [word for word in words if word not in text]
    assert not missing, f"wanted {missing} in the message, got {text[:300]!r}"
