"""The kernels of the event-driven products: in C++ for the CPU, compiled at their first use and then found in torch's
extension cache, and in Triton for CUDA."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import torch

_SOURCE = Path(__file__).with_name("event.cpp")
_FLAGS = ["/O2"] if os.name == "nt" else ["-O3", "-march=native"]

#: Whether `load` has been called in this process.
asked = False


class PlainTorchWarning(UserWarning):
    """The compiled kernels are missing, for the reason that the message gives; results are the same, only slower."""


def load() -> bool:
    """Make the C++ kernels available; returns whether they are. Warns once per process if they are not."""
    global asked
    if asked:
        return torch._C._dispatch_has_kernel_for_dispatch_key("neurodyn::event_matmul", "CPU")
    asked = True
    try:
        _load_or_build()
    except Exception as error:
        warnings.warn(
            "sparse connections on the CPU run in plain torch, several times slower, because their C++ kernels could "
            f"not be built: {type(error).__name__}: {error}; a C++ compiler such as g++ is needed",
            PlainTorchWarning,
            stacklevel=2,
        )
        return False
    return True


@functools.cache
def triton_kernels() -> ModuleType | None:
    """The kernels for CUDA; None, with a warning, if they cannot be imported."""
    try:
        return importlib.import_module(".event_triton", __package__)
    except ImportError as error:
        warnings.warn(
            f"sparse connections on CUDA run in plain torch, because Triton cannot be imported: {error}; "
            "pip install triton",
            PlainTorchWarning,
            stacklevel=2,
        )
        return None


def _load_or_build() -> None:
    from torch.utils import cpp_extension

    key = (_SOURCE.read_text(), torch.__version__, torch.backends.cpu.get_cpu_capability(), *_FLAGS)
    name = "neurodyn_" + hashlib.sha256("".join(key).encode()).hexdigest()[:16]
    cache = Path(cpp_extension.get_default_build_root()) / "neurodyn"
    library = cache / f"{name}{cpp_extension.LIB_EXT}"
    if library.exists():
        torch.ops.load_library(str(library))
        return
    cache.mkdir(parents=True, exist_ok=True)
    # Built aside and put in place at once: a process that is killed leaves no lock and no half a file.
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as folder:
        cpp_extension.load(name, [str(_SOURCE)], _FLAGS, build_directory=folder, is_python_module=False)
        copy = shutil.copy(Path(folder) / library.name, f"{folder}.copy")
        os.replace(copy, library)
