"""The programs of this process, found by what they depend on."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..states import get_states, named_dynamics, pure
from .chunk import TRACING
from .errors import BatchSpecialised, NotCompilable
from .fingerprint import Snapshot, fingerprint, has_changing_parts, hooked
from .opened import Opened, open_sizes
from .program import Program

_KEPT = 256
_programs: OrderedDict[Hashable, Program | str] = OrderedDict()
#: For each module how it and its inputs looked when a program was found for it the last time, and the program.
_last: weakref.WeakKeyDictionary[nn.Module, tuple[Any, list[Any], Program]] = weakref.WeakKeyDictionary()
_ONE_BATCH = "compiled for each batch size"


def program_for(
    net: nn.Module, xs: Sequence[Tensor], spec: pytree.TreeSpec, start: Callable[[], Any] = lambda: None
) -> tuple[Program, Snapshot]:
    """The program for a module with states and for inputs with time in front, and how the module looks.

    It is traced at its first use. If the states have to be set, `start` does it; they need not where their initial
    values are known, and net and inputs look as they did the last time.

    Raises:
        NotCompilable: with the reason.
    """
    autocast = torch._C._is_any_autocast_enabled() and _autocast(xs[0].device.type)
    inputs = [spec, autocast, *[(x.shape[1:], x.dtype, x.device) for x in xs]]
    if (last := _last.get(net)) is not None and last[1] == inputs:
        if last[2].initial is None:
            start()
        now = Snapshot(net)
        if now.looks(last[0]):
            return last[2], now
    start()
    found = _find(net, [x[0] for x in xs], spec, autocast)
    now = Snapshot(net)  # to find it may have set an attribute
    if not has_changing_parts(net):
        if len(_last) >= _KEPT:
            _last.clear()
        _last[net] = now.look, inputs, found
    return found, now


def _find(net: nn.Module, x: Sequence[Tensor], spec: pytree.TreeSpec, autocast: Any) -> Program:
    if (name := hooked(net)) is not None:
        raise NotCompilable(f"{name} has hooks, which have to be called at every step")
    batch = _common_batch(net)
    tensors = [*get_states(net).values(), *x]
    opened = open_sizes(net)
    found: Program | str = _ONE_BATCH
    for sizes, free in ((opened, batch), ({}, batch), ({}, ())):
        if found == _ONE_BATCH:
            key = fingerprint(net, sizes), spec, len(batch), autocast, _layouts(tensors, free)
            found = _lookup(key, net, x, spec, free, sizes)
    if isinstance(found, str):
        raise NotCompilable(found)
    return found


def _lookup(key: Hashable, net: nn.Module, *kind: Any) -> Program | str:
    found = _programs.get(key)
    if found is None:
        with TRACING:
            if key not in _programs:  # another thread may have been first
                _programs[key] = _build(net, *kind)
                if len(_programs) > _KEPT:
                    _programs.popitem(last=False)
            return _programs[key]
    with contextlib.suppress(KeyError):  # another thread may have dropped it
        _programs.move_to_end(key)
    return found


def specialise(program: Program) -> None:
    """From now on compile for each batch size where `program` was found: its backward pass holds for one only."""
    with TRACING:
        _last.clear()
        for key, found in _programs.items():
            if found is program:
                _programs[key] = _ONE_BATCH


def _build(net: nn.Module, x: Sequence[Tensor], spec: Any, batch: tuple[int, ...], opened: Opened) -> Program | str:
    try:
        return Program(net, x, spec, batch, opened)
    except BatchSpecialised:
        return _ONE_BATCH if batch or opened else "the shape of its output depends on values"
    except NotCompilable as reason:
        return str(reason)
    except Exception as error:
        with torch.no_grad():  # a mistake in the module or its input shows here, in its own words
            pure(net, get_states(net), *pytree.tree_unflatten(list(x), spec))
        return f"it cannot be traced ({type(error).__name__}: {error})"


def _autocast(device: str) -> torch.dtype | bool:
    """The dtype of autocast on a kind of device; False where there is none."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)


def _common_batch(net: nn.Module) -> tuple[int, ...]:
    """The batch shape of all layers, if they agree."""
    found = {module.batch for _, module in named_dynamics(net)}
    return found.pop() if len(found) == 1 else ()


def _layouts(tensors: Sequence[Tensor], batch: tuple[int, ...]) -> Hashable:
    n = len(batch)
    shapes = [(t.shape[:n] == batch, t.shape) for t in tensors]
    return tuple([(led, shape[n * led :], t.dtype, t.device) for (led, shape), t in zip(shapes, tensors, strict=True)])
