"""What a sparse connection takes from a file, checked before any of it is used."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.loading import take_shape
from ..ops.event_plain import check_matrix

if TYPE_CHECKING:
    from .sparse import Sparse

LOW = (torch.float16, torch.bfloat16)
_WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def fitting(connection: Sparse, state_dict: dict[str, Any], prefix: str) -> dict[str, Any]:
    """`state_dict` as `connection` can load it, whose tensors then have the shapes that it needs.

    Raises:
        ValueError, TypeError: it describes no connection between populations of these sizes.
    """
    own = {name: getattr(connection, name) for name in ("indptr", "indices", "weight")}
    found = {name: state_dict.get(f"{prefix}{name}", value) for name, value in own.items()}
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} in the file is {type(value).__name__}, wanted a tensor")
        if name != "weight" and (value.dtype not in _WHOLE or value.dim() != 1):
            shape = tuple(value.shape)
            raise TypeError(f"{name} in the file is {value.dtype} of shape {shape}, wanted a row of integers")
    indptr, indices, weight = found.values()
    n_in, n_out = math.prod(connection.in_size), math.prod(connection.out_size)
    if len(indptr) != n_in + 1:
        raise ValueError(
            f"indptr in the file is for {len(indptr) - 1} inputs, wanted {n_in}; build the connection with the sizes "
            "that the saved one has"
        )
    synapses = len(indices)
    if int(indptr[0]) or int(indptr[-1]) != synapses:
        ends = f"{int(indptr[0])} to {int(indptr[-1])}"
        raise ValueError(f"indptr in the file counts from {ends}, wanted 0 to the {synapses} synapses in indices")
    if weight.dim() > 1 or (weight.dim() and len(weight) != synapses) or weight.is_complex():
        what = f"{weight.dtype} of shape {tuple(weight.shape)}"
        raise ValueError(f"weight in the file is {what} for {synapses} synapses; wanted one for all or one for each")
    bias = state_dict.get(f"{prefix}bias")
    if connection.bias is not None and isinstance(bias, Tensor) and bias.shape != connection.bias.shape:
        raise ValueError(f"bias in the file has shape {tuple(bias.shape)}, wanted {tuple(connection.bias.shape)}")
    delays = connection.delays
    if delays is None or indices.is_meta:
        check_matrix(indptr, indices, n_out, "the file")
    else:
        delay = _delay(state_dict, f"{prefix}delays.", connection)
        if delay.dim() > 1 or (delay.dim() and len(delay) not in (1, synapses)):
            raise ValueError(f"delay in the file has shape {tuple(delay.shape)} for {synapses} synapses")
        check_matrix(indptr, indices, 2**31 - 1, "the file")
        _check_steps(indices // n_out, delay, n_out)
        indices = indices % n_out
        delays.size = (synapses,)
    for name, value in found.items():
        take_shape(connection, name, value)
    known = dict(state_dict)
    for name, value in (("indptr", indptr), ("indices", indices)):
        if f"{prefix}{name}" in known:
            known[f"{prefix}{name}"] = value.to(torch.int32)
    return known


def _delay(state_dict: dict[str, Any], prefix: str, connection: Sparse) -> Tensor:
    assert connection.delays is not None
    value = connection.delays.saved_delay(state_dict, prefix)
    value = connection.delays.delay.detach() if value is None else value
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        raise TypeError("delay in the file must be a floating-point tensor")
    return value


def _check_steps(steps: Tensor, delay: Tensor, n_out: int) -> None:
    """Steps that are part of indices are 0, or those of `delay` with some dt."""
    if not bool(steps.any()):
        return
    delay = delay.double().to(steps.device).expand(steps.shape)
    k = int(steps.argmax())
    dt = delay[k] / steps[k]
    wrong = ~((steps - delay / dt).abs() < 0.5)
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        raise ValueError(
            f"the synapse {k} in indices of the file reaches output {int(steps[k]) * n_out} or one of the next; wanted "
            f"0 to {n_out - 1}, and its delay, {float(delay[k]):g} ms, does not say otherwise"
        )


def size_of(connection: Sparse) -> tuple[int, int]:
    """The steps for which a connection with delays remembers what is on its way, and its outputs.

    Raises:
        ValueError: the product does not fit into int32.
    """
    delays, n = connection.delays, math.prod(connection.out_size)
    assert delays is not None
    rows = delays.length + (1 if delays.whole else 2)
    if rows * n >= 2**31:
        label = connection._label()
        raise ValueError(f"{label}: {rows} steps of delay for {n} outputs are too many; use a longer dt")
    return rows, n


def place(connection: Sparse) -> None:
    """Make whole delays a part of the indices, and the memory long enough."""
    delays, n = connection.delays, math.prod(connection.out_size)
    assert delays is not None
    rows, _ = size_of(connection)
    synapses = len(connection.indices)
    if delays.delay.numel() not in (1, synapses):
        raise ValueError(f"{connection._label()}: delay has {delays.delay.numel()} values for {synapses} synapses")
    delays.size = (synapses,)
    connection.arrivals.resize(rows, n)
    targets = connection.indices % n
    if delays.whole:
        assert delays._before is not None
        targets = delays._before.to(targets.device) * n + targets
    targets = targets.to(torch.int32)
    if not torch.equal(targets, connection.indices):  # which may be lent, by functional_call
        connection._buffers["indices"] = targets


def settle(connection: nn.Module, _keys: Any) -> None:
    """After loading; a function of a module, so that copies and pickles have it."""
    with contextlib.suppress(ValueError):  # something was not loaded, and torch is about to say so
        connection.settle()  # type: ignore[operator]
