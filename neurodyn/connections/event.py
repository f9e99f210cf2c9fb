"""Event-driven products of spikes with a sparse matrix, as operators that torch.compile takes as they are.

The matrix is in CSR form with int32 indices: row i holds the synapses that input i makes, ``indices[indptr[i]:
indptr[i + 1]]`` their targets. With synapse k from input $i_k$ to output $j_k$ there are three products, and the
derivatives of each are the other two::

    matmul        y_j = sum of x_i w_k over the synapses to j      work proportional to the non-zero x
    input_grad    x_i = sum of w_k g_j over the synapses of i
    weight_grad   w_k = x_i g_j                                    work proportional to the non-zero x

On the CPU they are C++, on CUDA Triton kernels, elsewhere plain torch.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from . import native

_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define("event_matmul(Tensor x, Tensor weight, Tensor indptr, Tensor indices, SymInt n_out) -> Tensor")
_library.define("event_input_grad(Tensor g, Tensor weight, Tensor indptr, Tensor indices) -> Tensor")
_library.define("event_weight_grad(Tensor x, Tensor g, Tensor indptr, Tensor indices) -> Tensor")
_library.define("event_nonzero(Tensor x) -> Tensor")
_ops = torch.ops.neurodyn


def matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """``(*batch, n_in) -> (*batch, n_out)``, with one weight for all synapses (a scalar) or one for each."""
    if not native.asked and not torch.compiler.is_compiling():
        native.load()
    return _Matmul.apply(x, weight, indptr, indices, n_out)


def nonzero(x: Tensor) -> Tensor:
    """The positions of the non-zero elements of `x` in memory order, one number each."""
    native.load()
    return _ops.event_nonzero(x)


def _weight_grad(x: Tensor, g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    if weight.dim():
        return _WeightGrad.apply(x, g, indptr, indices)
    return (x * _InputGrad.apply(g, torch.ones_like(weight), indptr, indices)).sum()


class _Matmul(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
        return _ops.event_matmul(x, weight, indptr, indices, n_out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, weight, *matrix = ctx.saved_tensors
        of_x = _InputGrad.apply(g, weight, *matrix) if ctx.needs_input_grad[0] else None
        of_weight = _weight_grad(x, g, weight, *matrix) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None, None


class _InputGrad(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
        return _ops.event_input_grad(g, weight, indptr, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Any, ...]:
        g, weight, *matrix = ctx.saved_tensors
        of_g = _Matmul.apply(x, weight, *matrix, g.shape[-1]) if ctx.needs_input_grad[0] else None
        of_weight = _weight_grad(x, g, weight, *matrix) if ctx.needs_input_grad[1] else None
        return of_g, of_weight, None, None


class _WeightGrad(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
        return _ops.event_weight_grad(x, g, indptr, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Any, ...]:
        x, g, *matrix = ctx.saved_tensors
        of_x = _InputGrad.apply(g, w, *matrix) if ctx.needs_input_grad[0] else None
        of_g = _Matmul.apply(x, w, *matrix, g.shape[-1]) if ctx.needs_input_grad[1] else None
        return of_x, of_g, None, None


def _sources(indptr: Tensor) -> Tensor:
    return torch.repeat_interleave(indptr.diff())


# Kernels in plain torch, for devices that have none of their own.


def _plain_matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    active = (x != 0).reshape(-1, x.shape[-1]).any(0).nonzero().squeeze(1)
    count = indptr.diff()[active]
    source = torch.repeat_interleave(active, count)
    offset = torch.repeat_interleave(indptr[active] - (count.cumsum(0) - count), count)
    synapse = torch.arange(len(source), device=x.device) + offset
    jumps = x[..., source] * (weight[synapse] if weight.dim() else weight)
    return x.new_zeros(*x.shape[:-1], n_out).index_add_(-1, indices[synapse], jumps)


def _plain_input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    x = g.new_zeros(*g.shape[:-1], len(indptr) - 1)
    return x.index_add_(-1, _sources(indptr), g[..., indices] * weight)


def _plain_weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    product = x[..., _sources(indptr)] * g[..., indices]
    return product.reshape(math.prod(x.shape[:-1]), len(indices)).sum(0)


def _fake_matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], n_out))


def _fake_input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    return g.new_empty((*g.shape[:-1], indptr.shape[0] - 1))


def _fake_weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    return x.new_empty((indices.shape[0],))


def _on_cuda(name: str, plain: Any, *args: Any) -> Tensor:
    """The Triton kernel, or plain torch where there is no Triton."""
    kernels = native.triton_kernels()
    return plain(*args) if kernels is None else getattr(kernels, name)(*args)


def _batched(op: Any, over_batch: tuple[int, ...], info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
    """The operator under vmap: as one more batch dimension where it allows one, else one call after the other."""
    mapped = {i for i, dim in enumerate(in_dims) if dim is not None}
    args = tuple(a if dim is None else a.movedim(dim, 0) for a, dim in zip(args, in_dims, strict=True))
    if mapped and mapped == set(over_batch):
        return op(*args), 0
    each = (op(*(a[i] if k in mapped else a for k, a in enumerate(args))) for i in range(info.batch_size))
    return torch.stack(list(each)), 0


for _name, _kernel, _fake, _over_batch in (
    ("event_matmul", _plain_matmul, _fake_matmul, (0,)),
    ("event_input_grad", _plain_input_grad, _fake_input_grad, (0,)),
    ("event_weight_grad", _plain_weight_grad, _fake_weight_grad, ()),
):
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    _library.impl(_name, functools.partial(_on_cuda, _name.removeprefix("event_"), _kernel), "CUDA")
    torch.library.register_fake(f"neurodyn::{_name}", _fake, lib=_library)
    _rule = functools.partial(_batched, getattr(_ops, _name), _over_batch)
    torch.library.register_vmap(f"neurodyn::{_name}", _rule, lib=_library)

_library.impl("event_nonzero", lambda x: x.flatten().nonzero().squeeze(1), "CompositeExplicitAutograd")
