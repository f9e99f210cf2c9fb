"""The kernels of a chunk that Inductor compiled: where they lie, and what they are called with."""

from __future__ import annotations

import ctypes
import functools
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_PLAIN = {
    *("clear", "size", "torch", "empty_strided_cpu"),
    *("run", "cuda", "_DeviceGuard", "set_device", "get_raw_stream", "empty_strided_cuda"),
    *("copy_misaligned", "copy_if_misaligned"),  # torch 2.12 and 2.13, for inputs at odd addresses
}
_WARP = 32  # threads
_WORDS = {"O": 2**63, "l": 2**63, "K": 2**63, "i": 2**31, "I": 2**31}  # arguments of Triton, and what they stay below


class Call(NamedTuple):
    """A kernel's call.

    Attributes:
        kernel: its address, or on a GPU its handle.
        arguments: tensors and integers.
        launch: on a GPU the blocks in three directions, the threads of a block, and the bytes that these share.
    """

    kernel: int
    arguments: tuple[Any, ...]
    launch: tuple[int, ...] = ()


class NotReady(Exception):
    """Triton has not chosen yet among several kernels, as it does when they are called for the first time."""


class Cpp:
    """A kernel in C++."""

    def __init__(self, kernel: Any):
        library = ctypes.CDLL(kernel.__self__.__file__)
        self.address: int = ctypes.cast(library["kernel"], ctypes.c_void_p).value  # type: ignore[assignment]

    def recorder(self, calls: list[Call]) -> Any:
        """In place of the kernel: does nothing but note its calls."""
        return lambda *arguments: calls.append(Call(self.address, arguments))


class Triton:
    """A kernel of Triton on an NVIDIA GPU, which torch launches without Triton's own launcher."""

    def __init__(self, kernel: Any):
        self.kernel = kernel
        self.held: list[Any] = []  # what is dropped is unloaded
        launcher()

    def recorder(self, calls: list[Call]) -> Any:
        """As of `Cpp`.

        Raises:
            NotReady: at a call, if the kernel has never run.
        """

        def run(*arguments: Any, stream: int) -> None:
            call = self._call(arguments)
            if 0 not in call.launch[:3]:
                calls.append(call)

        return SimpleNamespace(run=run)

    def _call(self, arguments: tuple[Any, ...]) -> Call:
        """What torch hands to CUDA for these arguments: its own functions say it to a launcher that only listens."""
        if len(self.kernel.launchers) != 1:
            raise NotReady
        (written,) = self.kernel.launchers
        kernel, heard = written.__globals__["runner"].__self__, []
        told = SimpleNamespace(**vars(kernel))
        told.C_impl = SimpleNamespace(_launch_kernel=lambda *launch: heard.append(launch))
        scope = written.__globals__ | {"runner": partial(type(kernel).run, told)}
        FunctionType(written.__code__, scope)(*arguments, stream=0)
        ((function, x, y, z, warps, shared, kinds, values, _),) = heard
        numbers = tuple(0 if value is None else value for value in values)
        for kind, number in zip(kinds + "iii", (*numbers, x, y, z), strict=True):
            if kind not in _WORDS or not (isinstance(number, Tensor) or -_WORDS[kind] <= number < _WORDS[kind]):
                raise ValueError(f"an argument {number} of kind {kind}")
        if kernel not in self.held:
            self.held.append(kernel)
        return Call(function, numbers, (x, y, z, _WARP * warps, shared))


def kernels_of(code: Any, scope: dict[str, Any]) -> dict[str, Cpp | Triton] | None:
    """Those that a function written by Inductor calls, by name; None if it does anything else."""
    found: dict[str, Cpp | Triton] = {}
    for name in code.co_names:
        if name.startswith("cpp_fused"):
            found[name] = Cpp(scope[name])
        elif name.startswith("triton_"):
            found[name] = Triton(scope[name])
        elif name not in _PLAIN and not isinstance(getattr(torch, name, None), torch.dtype):
            return None
    return found


@functools.cache
def launcher() -> int:
    """The address of the function that launches a kernel on an NVIDIA GPU.

    Raises:
        OSError, AttributeError: there is none.
    """
    if torch.version.hip is not None:
        raise OSError("libcuda is not what launches kernels of ROCm")
    return ctypes.cast(ctypes.CDLL("libcuda.so.1").cuLaunchKernel, ctypes.c_void_p).value  # type: ignore[return-value]
