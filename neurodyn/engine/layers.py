"""How a module is cut into pieces that run over the whole sequence one after the other."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..current import SynapticOutput
from ..dynamics import Dynamics
from ..states import named_dynamics
from .linear import linear

#: For each module its stages and its layers, as they were the last time: a program is found sooner for a known layer.
_known: weakref.WeakKeyDictionary[nn.Module, tuple[list[nn.Module], list[nn.Module]]] = weakref.WeakKeyDictionary()


def layers(module: nn.Module) -> list[nn.Module]:
    """The modules that run over the whole sequence one after the other.

    An ``nn.Sequential`` is opened, and so is every module with a method ``stages()``, which lists the modules that its
    forward calls in a row. Neighbouring `Dynamics` and synaptic outputs become one module. Where a layer with states
    occurs twice, so that its second place sees what the first did, everything stays one module.
    """
    row = list(stages(module)) if module._modules else [module]
    if len(row) == 1:
        return row
    if torch.compiler.is_compiling():
        return _together(module, row)
    before, found = _known.get(module, ([], []))
    if len(before) != len(row) or any(a is not b for a, b in zip(before, row, strict=True)):
        found = _together(module, row)
        if module not in found:  # which would keep it alive
            _known[module] = row, found
    return found


def _together(module: nn.Module, row: list[nn.Module]) -> list[nn.Module]:
    stateful = [layer for stage in row for _, layer in named_dynamics(stage)]
    if len(set(stateful)) < len(stateful):
        return [module]
    found: list[nn.Module] = []
    run: list[nn.Module] = []
    for stage in (*row, None):
        if isinstance(stage, (Dynamics, SynapticOutput)):
            run.append(stage)
            continue
        if run:
            found.append(run[0] if len(run) == 1 else nn.Sequential(*run))
            run = []
        if stage is not None:
            found.append(stage)
    return found


def stages(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that the forward of `module` calls in a row, each opened as far as it goes."""
    if type(module).forward is nn.Sequential.forward:
        children = iter(module)  # type: ignore[arg-type]  # children() would leave out a second place of the same layer
    elif hasattr(type(module), "stages"):
        children = module.stages()  # type: ignore[operator]
    else:
        yield module
        return
    for child in children:
        yield from stages(child)


def is_stateless(module: nn.Module) -> bool:
    """Whether `module` may run on all time steps at once."""
    if isinstance(module, (Dynamics, SynapticOutput)):
        return False
    return not named_dynamics(module)


def flattened(module: nn.Module, xs: Tensor, compile: bool = False, donated: bool = False) -> tuple[Tensor, bool]:
    """A stateless module on all steps at once, as on a batch of ``T * batch``; without a batch, T is the batch.

    With `compile` a large ``nn.Linear`` is computed by the operators of `linear`. Then nobody else has the result,
    which is what the second value tells; `donated` tells it of `xs`.
    """
    if xs.dim() < 3:
        return module(xs), False
    rows = xs.flatten(0, 1)
    ys = linear(module, rows, donated) if compile else None
    return (module(rows) if ys is None else ys).unflatten(0, xs.shape[:2]), ys is not None
