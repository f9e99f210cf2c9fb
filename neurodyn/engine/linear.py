"""Large float32 products of rows with a matrix on the CPU, as operators: fewer operations for rows of spikes.

Where at most a quarter of the inputs is not zero, only those are multiplied (linear.cpp); else oneDNN is called, which
is faster than what torch takes. A weight that is not finite shows only in the outputs of inputs that are not zero.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..dynamics import in_transform
from .fingerprint import hooked

#: Elements of a matrix from which on the operators pay in a step: a call costs 10 us more than one of torch.
LARGE = 2**16
#: Outputs from which on it pays to look for zeros in the input.
WIDE = 128
_MANY = 2**24  # multiplications from which on the operators pay in a product over all steps

_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define("linear(Tensor x, Tensor weight, Tensor? bias, Tensor? columns) -> Tensor")
_library.define("outer(Tensor[] xs, Tensor[] gs) -> Tensor")
_ops = torch.ops.neurodyn


def linear(module: nn.Module, x: Tensor) -> Tensor | None:
    """What an ``nn.Linear`` makes of rows `x`; None where the module itself has to be called."""
    if (
        type(module) is nn.Linear
        and x.dim() == 2
        and len(x) * module.weight.numel() >= _MANY
        and (x.device.type, x.dtype, module.weight.dtype) == ("cpu", torch.float32, torch.float32)
        and x.shape[1] == module.in_features
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not in_transform()
        and hooked(module) is None
    ):
        x = x.contiguous()
        sparse = module.out_features >= WIDE and _mostly_zero([x])
        return _ops.linear(x, module.weight, module.bias, module.weight.detach().t().contiguous() if sparse else None)
    return None


@torch.library.impl(_library, "linear", "CPU")
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, columns: Tensor | None) -> Tensor:
    """x @ weight.T + bias; with `columns`, which are ``weight.T.contiguous()``, x may be mostly zero."""
    if columns is not None and _kernels() is not None:
        x, bias = x.contiguous(), None if bias is None else bias.contiguous()
        y = x.new_empty(len(x), len(weight))
        if _kernels().product(*(None if t is None else t.data_ptr() for t in (x, columns, bias, y)), *_sizes(x, y)):
            return y
    if torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.nn.functional.linear(x, weight, bias)


@torch.library.impl(_library, "outer", "CPU")
def _outer(xs: Sequence[Tensor], gs: Sequence[Tensor]) -> Tensor:
    """The sum of x.T @ g, where x or g may be mostly zero; x is tried first."""
    xs, gs = ([tensor.contiguous() for tensor in tensors] for tensors in (xs, gs))
    for left, right in ((xs, gs), (gs, xs)):
        if right[0].shape[1] >= WIDE and _mostly_zero(left):
            w = left[0].new_empty(left[0].shape[1], right[0].shape[1])
            _kernels().outer(len(xs), _addresses(left), _addresses(right), w.data_ptr(), *_sizes(left[0], right[0]))
            return w if left is xs else w.t().contiguous()
    x, g = (tensors[0] if len(tensors) == 1 else torch.cat(tensors) for tensors in (xs, gs))
    if x.shape[1] > g.shape[1]:  # oneDNN is faster with the smaller one first
        return _linear(g.t(), x.t(), None, None).t().contiguous()
    return _linear(x.t(), g.t(), None, None)


def _mostly_zero(xs: Sequence[Tensor]) -> bool:
    kernels = _kernels()
    return kernels is not None and kernels.mostly_zero(len(xs), _addresses(xs), xs[0].numel())


def _addresses(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def _sizes(x: Tensor, y: Tensor) -> tuple[int, ...]:
    return *x.shape, y.shape[1], torch.get_num_threads()


@functools.cache
def _kernels() -> Any:
    """The functions of linear.cpp; None where they cannot be compiled, which the loop itself will say."""
    from torch._inductor.codecache import CppCodeCache

    try:
        kernels = CppCodeCache.load(Path(__file__).with_suffix(".cpp").read_text())
    except Exception:  # of many kinds: no compiler, or one without the vectors of GNU C
        return None
    size, pointer, threads = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
    kernels.mostly_zero.argtypes, kernels.mostly_zero.restype = [size, pointer, size], ctypes.c_bool
    kernels.product.argtypes, kernels.product.restype = [*4 * [pointer], *3 * [size], threads], ctypes.c_bool
    kernels.outer.argtypes, kernels.outer.restype = [size, *3 * [pointer], *3 * [size], threads], None
    return kernels


@torch.library.register_fake("neurodyn::linear", lib=_library)
def _(x: Tensor, weight: Tensor, bias: Tensor | None, columns: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.register_fake("neurodyn::outer", lib=_library)
def _(xs: Sequence[Tensor], gs: Sequence[Tensor]) -> Tensor:
    return xs[0].new_empty(xs[0].shape[1], gs[0].shape[1])


def _keep_linear(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad
    return (
        _ops.linear(grad, weight.t(), None, None) if wanted[0] else None,
        _ops.outer([x], [grad]).t() if wanted[1] else None,
        grad.sum(0) if wanted[2] else None,
        None,
    )


def _keep_outer(ctx: Any, inputs: tuple[list[Tensor], list[Tensor]], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[0], *inputs[1])


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    n = len(ctx.saved_tensors) // 2
    xs, gs = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
    return [_ops.linear(g, grad, None, None) for g in gs], [_ops.linear(x, grad.t(), None, None) for x in xs]


torch.library.register_autograd("neurodyn::linear", _linear_backward, setup_context=_keep_linear, lib=_library)
torch.library.register_autograd("neurodyn::outer", _outer_backward, setup_context=_keep_outer, lib=_library)
