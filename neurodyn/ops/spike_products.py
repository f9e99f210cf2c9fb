"""Large float32 products of rows with a matrix on the CPU, as operators: fewer operations for rows of spikes.

Where at most a quarter of the inputs is not zero, only those are multiplied (spike_products.cpp); else oneDNN is
called, which is faster than what torch takes. A weight that is not finite shows only in the outputs of inputs that
are not zero.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..torch_private import can_overwrite_saved_tensors, stands_for_many
from . import native

#: Elements of a matrix from which on the operators pay in a step: a call costs 10 us more than one of torch.
LARGE = 2**16
#: Outputs from which on it pays to look for zeros in the input.
WIDE = 128
_ROWS = 2**10  # of a gradient that takes the place of its input, at a time
_MANY = 2**24  # multiplications from which on the operators pay in a product over all steps

_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define(
    "linear(Tensor x, Tensor weight, Tensor? bias, Tensor? columns=None, bool look=False, bool donated=False) -> Tensor"
)
_library.define("outer(Tensor[] xs, Tensor[] gs) -> Tensor")
_library.define("packed(Tensor weight) -> Tensor")
_ops = torch.ops.neurodyn


def linear(module: nn.Module, x: Tensor, donated: bool = False) -> Tensor | None:
    """What an ``nn.Linear`` makes of rows `x`; None where the module itself has to be called.

    If x is `donated`, so that nobody else reads it, its gradient may be written in its place. Not for the inside of
    torch.compile, where the number of rows may be a symbol, and of torch.func.
    """
    if (
        type(module) is nn.Linear
        and x.dim() == 2
        and len(x) * module.weight.numel() >= _MANY
        and x.shape[1] == module.in_features
        and all(_is_plain(tensor) for tensor in (x, module.weight, module.bias) if tensor is not None)
        and (module.bias is None or module.bias.shape == (module.out_features,))
        and not torch.is_autocast_enabled("cpu")
        and "forward" not in vars(module)
    ):
        return _ops.linear(x, module.weight, module.bias, look=True, donated=donated)
    return None


def _is_plain(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


@torch.library.impl(_library, "linear", "MkldnnCPU")  # with a weight that was packed
@torch.library.impl(_library, "linear", "CPU")
def _linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    columns: Tensor | None = None,
    look: bool = False,
    donated: bool = False,
) -> Tensor:
    """x @ weight.T + bias.

    Zeros in x are looked for if asked to, or if the `columns` are at hand, which are ``weight.T.contiguous()``.
    """
    if (look or columns is not None) and len(weight) >= WIDE and _mostly_zero([x := x.contiguous()]):
        y = x.new_empty(len(x), len(weight))  # before the columns, which then leave no hole in memory
        columns = weight.t().contiguous() if columns is None else columns.contiguous()
        bias = None if bias is None else bias.contiguous()
        start = None if bias is None else bias.data_ptr()
        threads = torch.get_num_threads()
        _kernels().product(x.data_ptr(), columns.data_ptr(), start, y.data_ptr(), *x.shape, len(weight), threads)
        return y
    if not len(x):
        return x.new_empty(0, len(weight))
    if _has_onednn() and x.dtype == torch.float32 and weight.numel():
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return torch.nn.functional.linear(x, weight, bias)


@torch.library.impl(_library, "packed", "CPU")
def _packed(weight: Tensor) -> Tensor:
    """`weight` in the order in which oneDNN reads it, for `linear` without `columns`: it takes a sixth less time."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if _has_onednn() else weight.contiguous()


@functools.cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available()


@torch.library.impl(_library, "outer", "CPU")
def _outer(xs: Sequence[Tensor], gs: Sequence[Tensor]) -> Tensor:
    """The sum of x.T @ g, where x or g may be mostly zero; x is tried first."""
    if len({len(x) for x in xs}) > 1:
        xs, gs = [torch.cat(list(xs))], [torch.cat(list(gs))]
    xs, gs = ([tensor.contiguous() for tensor in tensors] for tensors in (xs, gs))
    for left, right in ((xs, gs), (gs, xs)):
        n, m = left[0].shape[1], right[0].shape[1]
        if m >= WIDE and _mostly_zero(left):
            w, rows, threads = left[0].new_empty(n, m), len(left[0]), torch.get_num_threads()
            _kernels().outer(len(left), _addresses(left), _addresses(right), w.data_ptr(), rows, n, m, threads)
            return w if left is xs else w.t().contiguous()
    x, g = (tensors[0] if len(tensors) == 1 else torch.cat(tensors) for tensors in (xs, gs))
    if x.shape[1] > g.shape[1]:  # oneDNN is faster with the smaller one first
        return _linear(g.t(), x.t(), None).t().contiguous()
    return _linear(x.t(), g.t(), None)


def _mostly_zero(xs: Sequence[Tensor]) -> bool:
    """Whether the kernels are faster than oneDNN for `xs`, contiguous tensors of one shape."""
    kernels = _kernels() if xs[0].dtype == torch.float32 else None
    return kernels is not None and kernels.mostly_zero(len(xs), _addresses(xs), xs[0].numel())


def _addresses(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


@functools.cache
def _kernels() -> Any:
    """The functions of spike_products.cpp; None where they cannot be compiled, which the loop itself will say."""
    try:
        kernels = native.load(Path(__file__).with_suffix(".cpp"))
    except native.NotAvailable:
        return None
    size, pointer, threads = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
    kernels.mostly_zero.argtypes, kernels.mostly_zero.restype = [size, pointer, size], ctypes.c_bool
    kernels.product.argtypes, kernels.product.restype = [*4 * [pointer], *3 * [size], threads], None
    kernels.outer.argtypes, kernels.outer.restype = [size, *3 * [pointer], *3 * [size], threads], None
    return kernels


@torch.library.register_fake("neurodyn::linear", lib=_library)
def _(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.register_fake("neurodyn::packed", lib=_library)
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape)


@torch.library.register_fake("neurodyn::outer", lib=_library)
def _(xs: Sequence[Tensor], gs: Sequence[Tensor]) -> Tensor:
    return xs[0].new_empty(xs[0].shape[1], gs[0].shape[1])


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.donated = inputs[5]


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad
    batched = stands_for_many([grad])  # for which there is no rule with lists of tensors
    of_x = of_weight = None
    if wanted[1]:
        of_weight = grad.t() @ x if batched else _ops.outer([x], [grad]).t().contiguous()
    if wanted[0] and batched:
        of_x = grad @ weight
    elif wanted[0] and ctx.donated and can_overwrite_saved_tensors():
        of_x = x.detach()
        for rows, some in zip(of_x.split(_ROWS), grad.split(_ROWS), strict=True):
            rows.copy_(_ops.linear(some, weight.t(), None))
    elif wanted[0]:
        of_x = _ops.linear(grad, weight.t(), None)
    return of_x, of_weight, grad.sum(0) if wanted[2] else None, None, None, None


def _keep_outer(ctx: Any, inputs: tuple[list[Tensor], list[Tensor]], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[0], *inputs[1])


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    n = len(ctx.saved_tensors) // 2
    xs, gs = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
    return [_ops.linear(g, grad, None) for g in gs], [_ops.linear(x, grad.t(), None) for x in xs]


torch.library.register_autograd("neurodyn::linear", _linear_backward, setup_context=_keep_linear, lib=_library)
torch.library.register_autograd("neurodyn::outer", _outer_backward, setup_context=_keep_outer, lib=_library)
