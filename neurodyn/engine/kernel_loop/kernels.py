"""The kernels of a chunk that Inductor compiled: where they lie, and what they are called with."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...torch_private import cpp_kernel_library, triton_launch

_WARP = 32  # threads
_WORDS = {"O": 2**63, "l": 2**63, "K": 2**63, "i": 2**31, "I": 2**31}  # arguments of Triton, and what they stay below

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_HARMLESS = {
    *("clear", "size", "torch", "empty_strided_cpu"),
    *("run", "cuda", "_DeviceGuard", "set_device", "get_raw_stream", "empty_strided_cuda"),
    *("copy_misaligned", "copy_if_misaligned"),  # torch 2.12 and 2.13, for inputs at odd addresses
}

#: On the CPU also what it names to call operators of this library.
_CALLING = {"ops", "neurodyn", "default", "reinterpret_tensor"}


class NotRecordable(Exception):
    """A chunk's kernels cannot be called without Python, for the reason given."""


class NotYet(Exception):
    """Triton has not chosen yet among several kernels, as it does when they are called for the first time."""


class Launched(NamedTuple):
    """A kernel's call: its address, or on a GPU its handle; its arguments; on a GPU blocks, threads, shared bytes."""

    kernel: int
    arguments: tuple[Any, ...]
    launch: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)


class Part(NamedTuple):
    """Contiguous memory inside of a tensor: what a view stands for."""

    tensor: Tensor
    shape: tuple[int, ...]
    offset: int  # bytes

    @property
    def dtype(self) -> torch.dtype:
        """As of a tensor."""
        return self.tensor.dtype


#: Stands in for a kernel: does nothing but note its calls in the list.
Recorder = Callable[[list[Launched]], Any]


def recorders(code: Any, scope: dict[str, Any], on_cpu: bool, operators: Iterable[str] = ()) -> dict[str, Recorder]:
    """One for each kernel that a function written by Inductor calls, which may call these operators too.

    Raises:
        NotRecordable: it does anything else.
    """
    found: dict[str, Recorder] = {}
    harmless = _HARMLESS.union(_CALLING, operators) if on_cpu else _HARMLESS
    for name in code.co_names:
        if name.startswith("cpp_fused") and on_cpu:
            found[name] = _of_cpp(scope[name])
        elif name.startswith("triton_") and not on_cpu:
            found[name] = _of_triton(scope[name])
        elif name not in harmless and not isinstance(getattr(torch, name, None), torch.dtype):
            raise NotRecordable(f"it calls {name}, which is no kernel")
    if not found:
        raise NotRecordable("it calls no kernel")
    return found


def _of_cpp(kernel: Any) -> Recorder:
    library = ctypes.CDLL(cpp_kernel_library(kernel))
    address = ctypes.cast(library["kernel"], ctypes.c_void_p).value or 0

    def recorder(calls: list[Launched]) -> Any:
        def run(*arguments: Any) -> None:
            if bad := [argument for argument in arguments if not isinstance(argument, (Tensor, Part, int))]:
                raise NotRecordable(f"a kernel has an argument {bad[0]!r}")
            calls.append(Launched(address, arguments))

        return run

    return recorder


def _of_triton(kernel: Any) -> Recorder:
    launcher()

    def recorder(calls: list[Launched]) -> Any:
        def run(*arguments: Any, stream: int) -> None:
            launch = triton_launch(kernel, arguments)
            if launch is None:
                raise NotYet("Triton has not chosen its kernel yet")
            function, x, y, z, warps, shared, kinds, values = launch
            numbers = tuple([0 if value is None else value for value in values])
            for kind, number in zip(kinds + "iii", (*numbers, x, y, z), strict=True):
                if kind not in _WORDS or not (isinstance(number, Tensor) or -_WORDS[kind] <= number < _WORDS[kind]):
                    raise NotRecordable(f"a kernel has an argument {number} of kind {kind}")
            if 0 not in (x, y, z):
                calls.append(Launched(function, numbers, (x, y, z, _WARP * warps, shared)))

        return SimpleNamespace(run=run)

    return recorder


@functools.cache
def launcher() -> int:
    """The address of the function that launches a kernel on an NVIDIA GPU.

    Raises:
        NotRecordable: there is none.
    """
    if torch.version.hip is not None:
        raise NotRecordable("libcuda is not what launches kernels of ROCm")
    try:
        return ctypes.cast(ctypes.CDLL("libcuda.so.1").cuLaunchKernel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError) as error:
        raise NotRecordable(f"libcuda cannot be loaded ({error})") from error
