"""The event-driven products on CUDA, as Triton kernels: a program looks through some inputs of a sample for events.

`matmul` adds with atomics, so the last digits depend on the order of arrival. Imported at the first use on CUDA.

`event` checks a matrix when it first sees it. What has changed since then, unseen by torch, may give wrong numbers, but
nothing outside the tensors is read or written: synapses and indices out of range are left out.
"""

# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 128
_PROGRAMS = 2**12  # keep a GPU busy
_MOST_INPUTS = 256


@triton.jit
def _matmul(
    x,
    weight,
    indptr,
    indices,
    y,
    n_in,
    n_out,
    synapses,
    SCALAR: tl.constexpr,
    INPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    blocks = tl.cdiv(n_in, INPUTS)
    b, begin = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * INPUTS
    lane = tl.arange(0, INPUTS)
    values = tl.load(x + b * n_in + begin + lane, begin + lane < n_in, 0)
    last = tl.max(tl.where(values != 0, lane, -1), 0)
    now = tl.min(tl.where(values != 0, lane, INPUTS), 0)
    while now <= last:  # from one input that is not zero to the next
        source = begin + now
        value = tl.load(x + b * n_in + source)
        start = tl.maximum(tl.load(indptr + source), 0)
        stop = tl.minimum(tl.load(indptr + source + 1), synapses)
        for first in range(start, stop, BLOCK):
            k = first + tl.arange(0, BLOCK)
            inside = k < stop
            w = tl.load(weight) if SCALAR else tl.load(weight + k, inside, 0)
            j = tl.load(indices + k, inside, 0)
            inside &= (j >= 0) & (j < n_out)
            tl.atomic_add(y + b * n_out + j, value * w + tl.zeros_like(j), inside)
        now = tl.min(tl.where((values != 0) & (lane > now), lane, INPUTS), 0)


@triton.jit
def _input_grad(g, weight, indptr, indices, x, n_in, n_out, synapses, SCALAR: tl.constexpr, BLOCK: tl.constexpr):
    b, i = (tl.program_id(0) // n_in).to(tl.int64), tl.program_id(0) % n_in
    start, stop = tl.maximum(tl.load(indptr + i), 0), tl.minimum(tl.load(indptr + i + 1), synapses)
    total = tl.zeros((BLOCK,), x.dtype.element_ty)
    for first in range(start, stop, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < stop
        w = tl.load(weight) if SCALAR else tl.load(weight + k, inside, 0)
        j = tl.load(indices + k, inside, 0)
        total += tl.load(g + b * n_out + j, inside & (j >= 0) & (j < n_out), 0) * w
    tl.store(x + b * n_in + i, tl.sum(total, 0))


@triton.jit
def _weight_grad(x, g, indptr, indices, w, n_in, n_out, rows, synapses, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    start, stop = tl.maximum(tl.load(indptr + i), 0), tl.minimum(tl.load(indptr + i + 1), synapses)
    for first in range(start, stop, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < stop
        j = tl.load(indices + k, inside, 0)
        total = tl.zeros((BLOCK,), w.dtype.element_ty)
        for b in range(rows):
            value = tl.load(x + b * n_in + i)
            if value != 0:
                total += value * tl.load(g + b * n_out + j, inside & (j >= 0) & (j < n_out), 0)
        tl.store(w + k, total, inside)


def _rows(x: Tensor) -> int:
    return math.prod(x.shape[:-1])


def matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """See `event`."""
    x, weight = x.contiguous(), weight.contiguous()
    y = x.new_zeros(*x.shape[:-1], n_out)
    n_in, rows = x.shape[-1], _rows(x)
    if n_in and rows:
        inputs = min(_MOST_INPUTS, triton.next_power_of_2(triton.cdiv(n_in * rows, _PROGRAMS)))
        grid, options = (triton.cdiv(n_in, inputs) * rows,), {"SCALAR": not weight.dim(), "INPUTS": inputs}
        _matmul[grid](x, weight, indptr, indices, y, n_in, n_out, len(indices), **options, BLOCK=_BLOCK)
    return y


def input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    g, weight, n_in = g.contiguous(), weight.contiguous(), len(indptr) - 1
    x = g.new_empty(*g.shape[:-1], n_in)
    if n := n_in * _rows(g):
        sizes = n_in, g.shape[-1], len(indices)
        _input_grad[(n,)](g, weight, indptr, indices, x, *sizes, SCALAR=not weight.dim(), BLOCK=_BLOCK)
    return x


def weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """See `event`."""
    x, g = x.contiguous(), g.contiguous()
    w = torch.zeros(len(indices), dtype=x.dtype, device=x.device)
    if x.shape[-1]:
        sizes = x.shape[-1], g.shape[-1], _rows(x), len(indices)
        _weight_grad[(x.shape[-1],)](x, g, indptr, indices, w, *sizes, BLOCK=_BLOCK)
    return w
