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

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


@functools.cache
def _library() -> ctypes.CDLL | None:
    """None without a compiler, of which it warns once."""
    try:
        return native.load(Path(__file__).with_suffix(".cpp"))
    except native.NotAvailable as error:
        warn_user(f"nd.spike_times runs in plain torch, many times slower: {error}", PlainTorchWarning)
        return None


def function_for(name: str, weight: Tensor) -> Any:
    """The compiled function, "spikes" or "recurrent", for the device and dtype of `weight`, or None."""
    dtype = _DTYPES.get(weight.dtype) if weight.device.type == "cpu" else None
    library = _library() if dtype else None
    if library is None:
        return None
    function = library[f"{name}_{dtype}"]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    numbers = {"spikes": 7, "recurrent": 6}[name]
    function.argtypes = [pointer] * 5 + [ctypes.c_double] + [number] * numbers + [pointer]
    function.restype = number
    return function


def simulate(
    function: Any, weight: Tensor, at: Tensor, source: Tensor, size: Tensor, values: Tensor, until: float, limit: int
) -> Tensor | None:
    """The spike times (batch, neurons, M): events at (batch, lists, events) in ascending order of inputs `source`.

    There is one list for all neurons, or one for each. `size` says how many spikes an event is. `values` (5, neurons)
    are tau, tau_s, R, and the threshold above rest and above the reset. None if a neuron has more than `limit` spikes.
    """
    (batch, lists, events), (neurons, inputs) = at.shape, weight.shape
    return _filled(function, (weight, at, source, size, values), until, (batch, lists, neurons, inputs, events, limit))


def recurrent(
    function: Any, weight: Tensor, delay: Tensor, times: Tensor, size: Tensor, values: Tensor, until: float, limit: int
) -> Tensor | None:
    """The same for neurons that drive each other, the last ones of the sources (neurons, sources) of `weight`, `delay`.

    Input spikes at `times` (batch, inputs, K). None if a neuron spikes more often than `limit`.
    """
    batch, inputs, K = times.shape
    return _filled(function, (weight, delay, times, size, values), until, (batch, len(weight), inputs, K, limit))


def _filled(function: Any, tensors: tuple[Tensor, ...], until: float, numbers: tuple[int, ...]) -> Any:
    given = [part.detach().contiguous() for part in tensors]
    weight, pointers, room, most = given[0], [part.data_ptr() for part in given], 1, 0
    batch = numbers[0]
    while True:
        found = torch.full((batch, len(weight), room), math.inf, dtype=weight.dtype)
        most = function(*pointers, until, *numbers, room, found.data_ptr())
        if most <= room:
            return found if most >= 0 else None
        room = most
