"""The event-driven products in plain torch, for devices that have no kernels of their own, and the checks of both."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..tools.versions import version_of

#: Matrices on CUDA that have been looked at: a look waits for the GPU.
_known: OrderedDict[tuple[int, ...], None] = OrderedDict()
_KEPT = 1024


def matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """See `event`."""
    check("matmul", (x, weight, indptr, indices, n_out))
    active = (x != 0).reshape(-1, x.shape[-1]).any(0).nonzero().squeeze(1)
    count = indptr.diff()[active]
    source = torch.repeat_interleave(active, count)
    offset = torch.repeat_interleave(indptr[active] - (count.cumsum(0) - count), count)
    synapse = torch.arange(len(source), device=x.device) + offset
    jumps = x[..., source] * (weight[synapse] if weight.dim() else weight)
    return x.new_zeros(*x.shape[:-1], n_out).index_add_(-1, indices[synapse], jumps)


def input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    check("input_grad", (g, weight, indptr, indices))
    x = g.new_zeros(*g.shape[:-1], len(indptr) - 1)
    used = slice(int(indptr[0]), int(indptr[-1]))
    return x.index_add_(-1, _sources(indptr), g[..., indices[used]] * (weight[used] if weight.dim() else weight))


def weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    check("weight_grad", (x, g, indptr, indices))
    used = slice(int(indptr[0]), int(indptr[-1]))
    product = x[..., _sources(indptr)] * g[..., indices[used]]
    w = x.new_zeros(len(indices))
    w[used] = product.reshape(math.prod(x.shape[:-1]), product.shape[-1]).sum(0)
    return w


def _sources(indptr: Tensor) -> Tensor:
    return torch.repeat_interleave(indptr.diff())


def check(name: str, args: Sequence[Any], once: bool = False) -> None:
    """Check the arguments of the operator `name`; its matrix `once`, until it is written to by torch.

    Raises:
        ValueError: a size, a device or an index.
        TypeError: a dtype.
    """
    op, (x, second, indptr, indices) = f"event_{name}", args[:4]
    if not x.dim():
        raise ValueError(f"{op}: the input has no dimensions, wanted (*batch, n)")
    if second.dtype != x.dtype:
        what = "the gradient" if name == "weight_grad" else "weight"
        raise TypeError(f"{op}: {what} is {second.dtype} and the input {x.dtype}; convert one")
    for tensor in (second, indptr, indices):
        if tensor.device != x.device:
            raise ValueError(f"{op}: tensors on {x.device} and {tensor.device}; move all to one device")
    for label, tensor in (("indptr", indptr), ("indices", indices)):
        if tensor.dtype != torch.int32 or tensor.dim() != 1:
            raise TypeError(f"{op}: {label} is {tensor.dtype} of shape {tuple(tensor.shape)}, wanted a row of int32")
    if name != "input_grad" and len(indptr) != x.shape[-1] + 1:
        raise ValueError(f"{op}: the input has {x.shape[-1]} elements and indptr {len(indptr)}, wanted one more")
    if name == "weight_grad":
        n_out = second.shape[-1] if second.dim() else 0
        if second.shape[:-1] != x.shape[:-1] or not second.dim():
            raise ValueError(f"{op}: the input has shape {tuple(x.shape)}, the gradient {tuple(second.shape)}")
    else:
        n_out = int(args[4]) if name == "matmul" else x.shape[-1]
        if second.dim() and second.shape != indices.shape:
            shape, n = tuple(second.shape), len(indices)
            raise ValueError(f"{op}: weight has shape {shape} for {n} synapses; wanted one for all, or one for each")
    if not once:
        check_matrix(indptr, indices, n_out, op)
        return
    key = (*(f(tensor) for tensor in (indptr, indices) for f in (Tensor.data_ptr, version_of, len)), n_out)
    if key not in _known and not torch.cuda.is_current_stream_capturing():
        check_matrix(indptr, indices, n_out, op)
        _known[key] = None
        if len(_known) > _KEPT:
            _known.popitem(last=False)


def check_matrix(indptr: Tensor, indices: Tensor, n_out: int, label: str) -> None:
    """Raise ValueError if row starts and indices, of the right dtypes, are no matrix with `n_out` columns."""
    starts = indptr.detach().cpu()
    if not len(starts) or int(starts[0]) < 0 or bool((starts.diff() < 0).any()) or int(starts[-1]) > len(indices):
        raise ValueError(
            f"{label}: indptr must hold one start for each input and the end, growing from 0 to the "
            f"{len(indices)} synapses in indices"
        )
    wrong = (indices < 0) | (indices >= n_out)
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        raise ValueError(
            f"{label}: indices[{k}] = {int(indices[k])} is out of range; wanted 0 to {n_out - 1}, as there are "
            f"{n_out} outputs"
        )
