"""Operators of `neurodyn.ops` in a chunk on the CPU: their kernels are called without torch in between."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...ops import add_pairs, event, native, ring
from .kernels import Launched, NotRecordable, Part


def stand_ins(calls: list[Launched], scattered: Collection[int]) -> dict[str, Any]:
    """For `torch` and `reinterpret_tensor` in the function that Inductor wrote: they note calls of the operators.

    Args:
        calls: where to note them.
        scattered: addresses of tensors that are not contiguous.
    """
    dtypes = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    known = {
        "event_matmul": _matmul,
        "event_add_pairs_": _add_pairs,
        "event_add_scaled_": _add_scaled,
        "event_deliver_": _deliver,
        "event_arrived": _arrived,
        "event_move_": _move,
    }
    ops = {name: SimpleNamespace(default=_recorder(function, calls, scattered)) for name, function in known.items()}
    return {
        "torch": SimpleNamespace(**dtypes, ops=SimpleNamespace(neurodyn=SimpleNamespace(**ops))),
        "reinterpret_tensor": _view,
    }


def _recorder(
    function: Callable[..., tuple[int, tuple[Any, ...], Any]], calls: list[Launched], scattered: Collection[int]
) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        tensors = [a.tensor if isinstance(a, Part) else a for a in arguments if isinstance(a, (Part, Tensor))]
        if any(tensor.data_ptr() in scattered for tensor in tensors):
            raise NotRecordable("an operator is given a tensor that is not contiguous")
        kernel, given, result = function(*arguments)
        calls.append(Launched(kernel, given))
        return result

    return run


def _view(base: Tensor | Part, shape: Sequence[int], strides: Sequence[int], offset: int) -> Part:
    """What Inductor's view of a tensor is here.

    Raises:
        NotRecordable: it is not contiguous.
    """
    expected = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if any(n != 1 and s != e for n, s, e in zip(shape, strides, expected, strict=True)):
        raise NotRecordable(f"an operator is given a view with strides {tuple(strides)}")
    whole, before = (base.tensor, base.offset) if isinstance(base, Part) else (base, 0)
    return Part(whole, tuple(shape), before + offset * whole.element_size())


def _matmul(x: Any, weight: Any, indptr: Any, indices: Any, n_out: int) -> tuple[int, tuple[Any, ...], Tensor]:
    x, weight, indptr, indices = _as_parts(x, weight, indptr, indices)
    _check(x, weight)
    y = torch.empty(*x.shape[:-1], n_out, dtype=x.dtype)
    sizes = math.prod(x.shape[:-1]), x.shape[-1], n_out, *indices.shape, int(not weight.shape), _wide(x)
    if indptr.shape != (x.shape[-1] + 1,) or weight.shape not in ((), indices.shape):
        raise NotRecordable("event_matmul has arguments that do not fit")
    return _kernel(event, "event_matmul_kernel"), (x, weight, indptr, indices, y, *sizes), y


def _add_pairs(
    weight: Any,
    y: Any,
    x: Any,
    indptr: Any,
    indices: Any,
    columns: Any,
    order: Any,
    rows: Any,
    bound: Any,
    *powers: Any,
) -> tuple[int, tuple[Any, ...], None]:
    weight, y, x, indptr, indices, columns, order, rows = _as_parts(weight, y, x, indptr, indices, columns, order, rows)
    limit = 0 if bound is None else _as_parts(bound)[0]
    _check(weight, y, x, *[limit] * (bound is not None))
    (n_in, n_out), batch = (x.shape[-1], y.shape[-1]), x.shape[:-1]
    fits = indptr.shape == (n_in + 1,) and columns.shape == (n_out + 1,) and y.shape[:-1] == batch
    if not fits or any(other.shape != weight.shape for other in (indices, order, rows)):
        raise NotRecordable("event_add_pairs has arguments that do not fit")
    bits = [struct.unpack("q", struct.pack("d", power))[0] for power in powers]
    sizes = math.prod(batch), n_in, n_out, *indices.shape, _wide(x)
    given = weight, y, x, indptr, indices, columns, order, rows, limit, *bits, *sizes
    return _kernel(add_pairs, "event_add_pairs_kernel"), given, None


def _add_scaled(weight: Any, other: Any, gain: Any, factor: Any, bound: Any) -> tuple[int, tuple[Any, ...], None]:
    weight, gain, factor = _as_parts(weight, gain, factor)
    added, limit = [value if value is None else _as_parts(value)[0] for value in (other, bound)]
    _check(weight, gain, factor, *[value for value in (added, limit) if value is not None])
    if gain.shape or factor.shape or (added is not None and added.shape != weight.shape):
        raise NotRecordable("event_add_scaled has arguments that do not fit")
    given = weight, added or 0, gain, factor, limit or 0, math.prod(weight.shape), _wide(weight)
    return _kernel(add_pairs, "event_add_scaled_kernel"), given, None


def _deliver(held: Any, head: Any, x: Any, weight: Any, indptr: Any, indices: Any) -> tuple[int, tuple[Any, ...], None]:
    held, head, x, weight, indptr, indices = _as_parts(held, head, x, weight, indptr, indices)
    _check(held, x, weight)
    rows, n = held.shape[-2:]
    batch, n_in = x.shape[:-1], x.shape[-1]
    fits = held.shape[:-2] == batch and indptr.shape == (n_in + 1,) and weight.shape in ((), indices.shape)
    if not fits or head.dtype != torch.int64 or head.shape:
        raise NotRecordable("event_deliver has arguments that do not fit")
    sizes = math.prod(batch), n_in, rows, n, *indices.shape, int(not weight.shape), _wide(x)
    return _kernel(ring, "event_deliver_kernel"), (held, head, x, weight, indptr, indices, *sizes), None


def _arrived(held: Any, head: Any) -> tuple[int, tuple[Any, ...], Tensor]:
    held, head = _as_parts(held, head)
    if len(held.shape) < 2 or head.dtype != torch.int64 or head.shape:
        raise NotRecordable("event_arrived has arguments that do not fit")
    batch, rows, n = held.shape[:-2], *held.shape[-2:]
    y = torch.empty(*batch, n, dtype=held.dtype)
    return _kernel(ring, "event_arrived_kernel"), (held, head, y, math.prod(batch), rows, n * y.element_size()), y


def _move(to: Any, source: Any) -> tuple[int, tuple[Any, ...], None]:
    to, source = _as_parts(to, source)
    if to.shape != source.shape or to.dtype != source.dtype:
        raise NotRecordable("event_move has arguments that do not fit")
    nbytes = math.prod(to.shape) * torch.empty(0, dtype=to.dtype).element_size()
    return _kernel(ring, "event_move_kernel"), (to, source, nbytes), None


def _as_parts(*tensors: Any) -> list[Any]:
    """Tensors as parts. The arguments of a chunk are contiguous; what it allocates does not need to be."""
    for tensor in tensors:
        if isinstance(tensor, Tensor) and 0 not in tensor.stride() and not tensor.is_contiguous():
            raise NotRecordable("an operator is given a tensor that is not contiguous")
    return [Part(tensor, tuple(tensor.shape), 0) if isinstance(tensor, Tensor) else tensor for tensor in tensors]


def _check(*values: Any) -> None:
    """That the values have one dtype, of two."""
    if values[0].dtype not in (torch.float32, torch.float64) or any(v.dtype != values[0].dtype for v in values):
        raise NotRecordable("an operator is given other dtypes than float32 or float64")


def _wide(x: Any) -> int:
    return int(x.dtype == torch.float64)


def _kernel(module: Any, name: str) -> int:
    """Its address."""
    try:
        return ctypes.cast(module.library()[name], ctypes.c_void_p).value or 0
    except native.NotAvailable as error:
        raise NotRecordable(f"{name} is not available") from error
