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
    ops = {name: SimpleNamespace(default=_recorder(name, calls, scattered)) for name in OPERATORS}
    return {
        "torch": SimpleNamespace(**dtypes, ops=SimpleNamespace(neurodyn=SimpleNamespace(**ops))),
        "reinterpret_tensor": _view,
    }


def _recorder(name: str, calls: list[Launched], scattered: Collection[int]) -> Callable[..., Tensor | None]:
    """A function that notes the call of a kernel: tensors, or 0 for None; the result; numbers; and the precision."""
    module, kinds, function = OPERATORS[name]
    name = name.rstrip("_")

    def run(*arguments: Any) -> Tensor | None:
        parts = [_part(a, scattered) if isinstance(a, (Tensor, Part)) else a for a in arguments]
        floats = {part.dtype for part, kind in zip(parts, kinds, strict=False) if kind == "f" and part is not None}
        if len(floats) > 1 or not floats <= {torch.float32, torch.float64}:
            raise NotRecordable("an operator is given other dtypes than float32 or float64")
        fits = all([part is None or _fits(part, kind) for part, kind in zip(parts, kinds, strict=False)])
        if not fits or (found := function(*parts)) is None:
            raise NotRecordable(f"{name} has arguments that do not fit")
        numbers, *result = found
        try:
            address = ctypes.cast(module.library()[f"{name}_kernel"], ctypes.c_void_p).value or 0
        except native.NotAvailable as error:
            raise NotRecordable(f"{name} is not available") from error
        wide = [int(dtype == torch.float64) for dtype in floats]
        calls.append(Launched(address, (*[part or 0 for part in parts[: len(kinds)]], *result, *numbers, *wide)))
        return result[0] if result else None

    return run


def _fits(part: Part, kind: str) -> bool:
    if kind == "n":
        return part.dtype == torch.int64 and part.shape == ()
    return kind != "i" or part.dtype == torch.int32


def _part(tensor: Tensor | Part, scattered: Collection[int]) -> Part:
    """A tensor as a part. The arguments of a chunk are contiguous; what it allocates does not need to be."""
    whole = tensor.tensor if isinstance(tensor, Part) else tensor
    allocated = isinstance(tensor, Tensor) and 0 not in tensor.stride()
    if whole.data_ptr() in scattered or (allocated and not whole.is_contiguous()):
        raise NotRecordable("an operator is given a tensor that is not contiguous")
    return tensor if isinstance(tensor, Part) else Part(tensor, tuple(tensor.shape), 0)


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


def _matmul(x: Part, weight: Part, indptr: Part, indices: Part, n_out: int) -> Any:
    *batch, n_in = x.shape
    if indptr.shape != (n_in + 1,) or weight.shape not in ((), indices.shape):
        return None
    y = torch.empty(*batch, n_out, dtype=x.dtype)
    return (math.prod(batch), n_in, n_out, *indices.shape, int(not weight.shape)), y


def _add_pairs(
    weight: Part, y: Part, x: Part, indptr: Part, indices: Part, columns: Part, order: Part, rows: Part, *rest: Any
) -> Any:
    (*batch, n_in), n_out = x.shape, y.shape[-1]
    fits = indptr.shape == (n_in + 1,) and columns.shape == (n_out + 1,) and y.shape == (*batch, n_out)
    if not fits or any(other.shape != weight.shape for other in (indices, order, rows)):
        return None
    bits = [struct.unpack("q", struct.pack("d", power))[0] for power in rest[1:]]  # rest[0] is the bound
    return ((*bits, math.prod(batch), n_in, n_out, *indices.shape),)


def _add_scaled(weight: Part, other: Part | None, gain: Part, factor: Part, bound: Part | None) -> Any:
    if gain.shape or factor.shape or (other is not None and other.shape != weight.shape):
        return None
    return ((math.prod(weight.shape),),)


def _deliver(held: Part, head: Part, x: Part, weight: Part, indptr: Part, indices: Part) -> Any:
    (*batch, rows, n), n_in = held.shape, x.shape[-1]
    fits = x.shape == (*batch, n_in) and indptr.shape == (n_in + 1,) and weight.shape in ((), indices.shape)
    if not fits:
        return None
    return ((math.prod(batch), n_in, rows, n, *indices.shape, int(not weight.shape)),)


def _arrived(held: Part, head: Part) -> Any:
    if len(held.shape) < 2:
        return None
    *batch, rows, n = held.shape
    y = torch.empty(*batch, n, dtype=held.dtype)
    return (math.prod(batch), rows, n * y.element_size()), y


def _move(to: Part, source: Part) -> Any:
    if to.shape != source.shape or to.dtype != source.dtype:
        return None
    return ((math.prod(to.shape) * to.dtype.itemsize,),)


#: For each operator where its kernel lies; its tensors, of one floating dtype, int32, a number in int64, or any; and a
#: function of its arguments that tells the numbers which its kernel takes, and the result; None if they do not fit.
OPERATORS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "event_matmul": (event, "ffii", _matmul),
    "event_add_pairs_": (add_pairs, "fffiiiiif", _add_pairs),
    "event_add_scaled_": (add_pairs, "fffff", _add_scaled),
    "event_deliver_": (ring, "fnffii", _deliver),
    "event_arrived": (ring, "*n", _arrived),
    "event_move_": (ring, "**", _move),
}
