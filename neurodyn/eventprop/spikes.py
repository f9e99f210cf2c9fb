"""`simulate` of events_in_time in C++, on the CPU: from event to event, one neuron after the other."""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..ops import native
from ..ops.event import PlainTorchWarning
from ..tools.user_warning import warn_user

_DTYPES = {torch.float32: "spikes_float32", torch.float64: "spikes_float64"}


@functools.cache
def _library() -> ctypes.CDLL | None:
    """None without a compiler, of which it warns once."""
    try:
        return native.load(Path(__file__).with_suffix(".cpp"))
    except native.NotAvailable as error:
        warn_user(f"nd.spike_times runs in plain torch, many times slower: {error}", PlainTorchWarning)
        return None


def function_for(weight: Tensor) -> Any:
    """The compiled function for the device and dtype of `weight`, or None."""
    name = _DTYPES.get(weight.dtype) if weight.device.type == "cpu" else None
    library = _library() if name else None
    if library is None or name is None:
        return None
    function = library[name]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer] * 4 + [ctypes.c_double] + [number] * 5 + [pointer]
    function.restype = number
    return function


def simulate(function: Any, weight: Tensor, at: Tensor, source: Tensor, values: Tensor, until: float) -> Tensor:
    """The spike times (batch, neurons, M): events at (batch, events) in ascending order of inputs `source`.

    `values` (5, neurons) are tau, tau_s, R, and the threshold above rest and above the reset.
    """
    (batch, events), (neurons, inputs) = at.shape, weight.shape
    given = [part.detach().contiguous() for part in (weight, at, source, values)]
    room, most = 1, 0
    while True:
        found = torch.full((batch, neurons, room), math.inf, dtype=weight.dtype)
        pointers = [part.data_ptr() for part in given]
        most = function(*pointers, until, batch, neurons, inputs, events, room, found.data_ptr())
        if most <= room:
            return found
        room = most
