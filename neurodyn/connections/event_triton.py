"""The event-driven products on CUDA, as Triton kernels: one program for each input and sample, short if it is silent.

`matmul` adds with atomics, so the last digits depend on the order of arrival. Imported at the first use on CUDA.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 128


@triton.jit
def _matmul(x, weight, indptr, indices, y, n_in, n_out, SCALAR: tl.constexpr, BLOCK: tl.constexpr):
    i, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    value = tl.load(x + b * n_in + i)
    if value != 0:
        start, stop = tl.load(indptr + i), tl.load(indptr + i + 1)
        for first in range(start, stop, BLOCK):
            k = first + tl.arange(0, BLOCK)
            inside = k < stop
            w = tl.load(weight) if SCALAR else tl.load(weight + k, inside, 0)
            j = tl.load(indices + k, inside, 0)
            tl.atomic_add(y + b * n_out + j, value * w + tl.zeros_like(j), inside)


@triton.jit
def _input_grad(g, weight, indptr, indices, x, n_in, n_out, SCALAR: tl.constexpr, BLOCK: tl.constexpr):
    i, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    start, stop = tl.load(indptr + i), tl.load(indptr + i + 1)
    total = tl.zeros((BLOCK,), x.dtype.element_ty)
    for first in range(start, stop, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < stop
        w = tl.load(weight) if SCALAR else tl.load(weight + k, inside, 0)
        j = tl.load(indices + k, inside, 0)
        total += tl.load(g + b * n_out + j, inside, 0) * w
    tl.store(x + b * n_in + i, tl.sum(total, 0))


@triton.jit
def _weight_grad(x, g, indptr, indices, w, n_in, n_out, rows, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(indptr + i), tl.load(indptr + i + 1)
    for first in range(start, stop, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < stop
        j = tl.load(indices + k, inside, 0)
        total = tl.zeros((BLOCK,), w.dtype.element_ty)
        for b in range(rows):
            value = tl.load(x + b * n_in + i)
            if value != 0:
                total += value * tl.load(g + b * n_out + j, inside, 0)
        tl.store(w + k, total, inside)


def _rows(x: Tensor) -> int:
    return math.prod(x.shape[:-1])


def matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """See `event`."""
    x, weight = x.contiguous(), weight.contiguous()
    y = x.new_zeros(*x.shape[:-1], n_out)
    grid = x.shape[-1], _rows(x)
    if math.prod(grid):
        _matmul[grid](x, weight, indptr, indices, y, x.shape[-1], n_out, SCALAR=not weight.dim(), BLOCK=_BLOCK)
    return y


def input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    g, weight, n_in = g.contiguous(), weight.contiguous(), len(indptr) - 1
    x = g.new_empty(*g.shape[:-1], n_in)
    grid = n_in, _rows(g)
    if math.prod(grid):
        _input_grad[grid](g, weight, indptr, indices, x, n_in, g.shape[-1], SCALAR=not weight.dim(), BLOCK=_BLOCK)
    return x


def weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    x, g = x.contiguous(), g.contiguous()
    w = torch.zeros(len(indices), dtype=x.dtype, device=x.device)
    if x.shape[-1]:
        _weight_grad[(x.shape[-1],)](x, g, indptr, indices, w, x.shape[-1], g.shape[-1], _rows(x), BLOCK=_BLOCK)
    return w
