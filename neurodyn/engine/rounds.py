"""The loop in C++ that calls compiled kernels, and the threads that it gives them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MOST = 96  # arguments of a kernel
NOT_STARTED = b"kernels cannot be launched"
_SOURCE = Path(__file__).with_name("rounds.cpp")


@functools.cache
def library() -> Any:
    """What rounds.cpp offers."""
    from torch._inductor.codecache import CppCodeCache

    found = CppCodeCache.load(_SOURCE.read_text().replace("MOST", str(MOST)))
    found.rounds.argtypes = [ctypes.c_void_p, *6 * [ctypes.c_int64], ctypes.c_void_p, ctypes.c_void_p]
    found.rounds.restype = ctypes.c_char_p
    found.same.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p]
    found.limit.argtypes, found.limit.restype = [ctypes.c_int], ctypes.c_int
    return found


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Inside, no loop of OpenMP uses more threads than this, if given."""
    if threads is None or threads >= torch.get_num_threads():
        yield
        return
    before = library().limit(threads)
    try:
        yield
    finally:
        library().limit(before)
