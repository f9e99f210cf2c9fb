"""How a module is cut into layers that run over the whole sequence one after the other, and which run on all steps."""

from __future__ import annotations

import contextlib
import operator
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from ..core.current import SynapticOutput
from ..core.dynamics import Dynamics, exporting
from ..core.hooks import has_hooks
from ..core.states import named_dynamics
from ..ops.spike_products import linear
from ..purity.overwritten import memory_of
from ..purity.snapshot import Snapshot
from ..tools.errors import NotCompilable
from ..torch_private import has_module_hooks

_ANY = 0
#: torch's layers that treat each row of a batch alone, with the dimensions of one item that belong together.
ITEM_DIMENSIONS: dict[type[nn.Module], int] = {
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU), _ANY
    ),
    **dict.fromkeys((nn.SiLU, nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid), _ANY),
    **dict.fromkeys((nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Softplus, nn.Softsign), _ANY),
    **dict.fromkeys((nn.Threshold, nn.AlphaDropout, nn.Embedding), _ANY),
    **dict.fromkeys((nn.Linear, nn.BatchNorm1d, nn.GroupNorm), 1),
    **dict.fromkeys((nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d, nn.Fold), 2),
    **dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.BatchNorm2d), 3),
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle, nn.Unfold), 3),
    **dict.fromkeys((nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.BatchNorm3d), 4),
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d), 2),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d), 3),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d), 4),
    **dict.fromkeys((nn.ConstantPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d, nn.ZeroPad1d, nn.CircularPad1d), 2),
    **dict.fromkeys((nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, nn.CircularPad2d), 3),
    **dict.fromkeys((nn.ConstantPad3d, nn.ReflectionPad3d, nn.ReplicationPad3d, nn.ZeroPad3d, nn.CircularPad3d), 4),
}
#: The same for layers that take no item alone, so that there must be a batch.
BATCHED_ITEMS: dict[type[nn.Module], int] = {
    **dict.fromkeys((nn.Dropout1d, nn.Upsample, nn.ChannelShuffle, nn.LocalResponseNorm), 2),
    **dict.fromkeys((nn.Dropout2d, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), 3),
    **dict.fromkeys((nn.Dropout3d,), 4),
}
#: Those that take their statistics from all steps, once.
NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
_CELLS = {
    nn.RNNCell: "nd.RNNCell, which takes its weights",
    nn.GRUCell: "nd.GRUCell",
    nn.LSTMCell: "nd.LSTMCell, which takes its weights",
    nn.RNN: "the layer itself on the whole sequence, outside of unroll",
    nn.GRU: "the layer itself on the whole sequence, outside of unroll",
    nn.LSTM: "the layer itself on the whole sequence, outside of unroll",
}
#: For each module its parts and its layers, as they were the last time: a program is found sooner for a known layer.
_known: weakref.WeakKeyDictionary[nn.Module, tuple[list[Any], list[nn.Module]]] = weakref.WeakKeyDictionary()


def layers(module: nn.Module) -> list[nn.Module]:
    """The modules that run over the whole sequence one after the other.

    An ``nn.Sequential`` is opened, and so is every module with a method ``stages()``, which lists the modules that its
    forward calls in a row. Neighbouring `Dynamics` and synaptic outputs become one module. Where a layer with states
    occurs twice, so that its second place sees what the first did, everything stays one module.

    Raises:
        TypeError: a recurrent cell of torch.nn, which would start anew at every step.
    """
    row = list(stages(module)) if module._modules else [module]
    for stage in row:
        if type(stage) in _CELLS:
            raise TypeError(
                f"unroll: {type(stage).__name__} in an nn.Sequential forgets its state at every step; "
                f"use {_CELLS[type(stage)]}, or a module of your own that keeps the state"
            )
    if len(row) == 1:
        return row
    before, found = _known.get(module, ([], []))
    parts = [*row, *_parts(row)]
    if len(before) != len(parts) or not all(map(operator.is_, before, parts)):
        found = _together(module, row)
        found = [] if module in found else found  # it would be kept alive
        _known[module] = parts, found
    return found or [module]


def _parts(row: list[nn.Module]) -> Iterator[Any]:
    """The modules in a row, and their tensors that are neither parameters nor states."""
    for stage in row:
        for module in stage.modules():
            yield module
            yield from _tensors(module)


def _tensors(module: nn.Module) -> list[Tensor]:
    """The tensors of a module itself that are neither parameters nor states."""
    values = *module._buffers.values(), *vars(module).values()
    return [value for value in values if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]


def _together(module: nn.Module, row: list[nn.Module]) -> list[nn.Module]:
    stateful = [layer for stage in row for _, layer in named_dynamics(stage)]
    if len(set(stateful)) < len(stateful) or _share(row):
        return [module]
    found: list[nn.Module] = []
    run: list[nn.Module] = []
    for stage in (*row, None):
        ours = isinstance(stage, (Dynamics, SynapticOutput)) and not getattr(stage, "better_alone", False)
        if ours and (not has_hooks(stage) or (run and _gives_current(run[-1]))):  # type: ignore[arg-type]
            run.append(stage)  # type: ignore[arg-type]
            continue
        if run:
            found.append(run[0] if len(run) == 1 else nn.Sequential(*run))
            run = []
        if stage is not None:
            found.append(stage)
    return found


def _share(row: list[nn.Module]) -> bool:
    """Whether two modules reach one layer, or the memory of one tensor, no parameter: one may act on the other."""
    seen: set[int] = set()
    for stage in dict.fromkeys(row):
        inside = Snapshot()
        with contextlib.suppress(NotCompilable):  # there is more than a snapshot takes
            inside.take("", stage)
        modules = [*stage.modules(), *inside.modules()]
        tensors = *inside.tensors().values(), *(value for module in modules for value in _tensors(module))
        held = {memory_of(value) for value in tensors} - {0}
        held |= {id(m) for m in modules if isinstance(m, Dynamics)}
        if held & seen:
            return True
        seen |= held
    return False


def _gives_current(stage: nn.Module) -> bool:
    """Whether its output is a `Current`, which only the next module can take, in the same step."""
    return isinstance(stage, SynapticOutput) or getattr(stage, "exact", False) is True


def stages(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that the forward of `module` calls in a row, each opened as far as it goes."""
    plain = not (has_hooks(module) or has_module_hooks() or "forward" in vars(module))
    opened = plain and type(module).__call__ is nn.Module.__call__
    if opened and type(module).forward is nn.Sequential.forward:
        children = iter(module)  # type: ignore[arg-type]  # children() would leave out a second place of the same layer
    elif opened and hasattr(type(module), "stages"):
        children = module.stages()  # type: ignore[operator]
    else:
        yield module
        return
    for child in children:
        yield from stages(child)


def runs_on_all_steps(module: nn.Module, x: Any = None) -> bool:
    """Whether `module` may run on all time steps at once, because it treats each row of a batch alone.

    This is known of torch.nn's layers without memory, and said by modules with an attribute ``rowwise = True``.

    Args:
        x: the input with time in front, whose dimensions decide for some layers.
    """
    if (has_hooks(module) and not _only_becomes(module)) or has_module_hooks() or "forward" in vars(module):
        return False
    if isinstance(module, (Dynamics, SynapticOutput)):
        return False
    if getattr(module, "rowwise", False) is True:
        return not named_dynamics(module)
    if not isinstance(x, Tensor) and x is not None:
        return False
    kind = _kind(module)
    rank = None if x is None else x.dim() - 1  # of the input of one step
    if kind in ITEM_DIMENSIONS:
        return (rank is None or rank >= ITEM_DIMENSIONS[kind]) and not getattr(module, "return_indices", False)
    if kind in BATCHED_ITEMS:
        return rank is None or rank > BATCHED_ITEMS[kind]
    if kind in (nn.LayerNorm, nn.RMSNorm):
        return rank is None or rank > len(module.normalized_shape)  # type: ignore[arg-type]
    if kind in (nn.Flatten, nn.Unflatten):
        first = module.start_dim if kind is nn.Flatten else module.dim
        return rank is None or (isinstance(first, int) and rank > 1 and int(first) % rank != 0)
    if kind in (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU):
        dim = getattr(module, "dim", None)
        return isinstance(dim, int) and (rank is None or (rank > 1 and int(dim) % rank != 0))
    return False


def takes_all_steps(module: nn.Module) -> bool:
    """Whether a layer with states has a method `over_time` for all steps at once that may be called."""
    if not hasattr(type(module), "over_time") or torch.compiler.is_compiling():
        return False
    return not (has_hooks(module) or has_module_hooks() or "forward" in vars(module))


def _kind(module: nn.Module) -> type[nn.Module]:
    """The class of a module, without parametrisations; of a lazy one, such as LazyLinear, what it becomes."""
    if parametrize.is_parametrized(module):
        return parametrize.type_before_parametrizations(module)
    return (_only_becomes(module) or type(module)) if isinstance(module, LazyModuleMixin) else type(module)


def _only_becomes(module: nn.Module) -> type[nn.Module] | None:
    """What a lazy module becomes in its first call, if it has no other hook than the one that does it."""
    others = module._forward_hooks or module._backward_hooks or module._backward_pre_hooks
    if isinstance(module, LazyModuleMixin) and len(module._forward_pre_hooks) == 1 and not others:
        return module.cls_to_become  # type: ignore[return-value]
    return None


def on_all_steps(module: nn.Module, xs: Tensor, fast: bool, in_place: bool) -> tuple[Tensor, bool]:
    """A module on all steps at once, as on a batch of ``T * batch``; without a batch, T is the batch.

    Args:
        fast: a large ``nn.Linear`` may be computed by `neurodyn.ops.spike_products`.
        in_place: nobody else reads `xs`, so that its gradient may take its place.

    Returns:
        The output; and whether nobody else has it.
    """
    item = ITEM_DIMENSIONS.get(_kind(module), 1)
    if xs.dim() < 3 or xs.dim() - 1 == item > 1:
        return module(xs), False
    rows = xs.flatten(0, 1)
    ys = linear(module, rows, in_place) if fast else None
    found = module(rows) if ys is None else ys
    if exporting() and _kind(module) not in (*ITEM_DIMENSIONS, *BATCHED_ITEMS):
        # That of nn.Flatten is a view of a view, whose strides torch cannot tell where T and batch are free.
        found = found.clone(memory_format=torch.contiguous_format)
    return found.unflatten(0, xs.shape[:2]), ys is not None
