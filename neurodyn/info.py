"""``neurodyn info``: what this installation runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import textwrap
from pathlib import Path

import torch

_REQUIRED, _OPTIONAL = ("torch", "numpy", "pint"), ("matplotlib", "tqdm", "safetensors", "pandas", "neo")


def info(width: int = 80) -> str:
    """Versions, threads, compiler, GPU and compile cache, a paragraph each."""
    facts = {
        "neurodyn": f"{version('neurodyn')}, Python {platform.python_version()}, {platform.system()}",
        "requires": ", ".join(f"{name} {version(name)}" for name in _REQUIRED),
        "extras": ", ".join(f"{name} {version(name)}" for name in _OPTIONAL),
        "threads": f"{torch.get_num_threads()} on {os.cpu_count()} cores (to change: OMP_NUM_THREADS)",
        "C++ compiler": compiler(),
        "GPU": gpu(),
        "compile cache": cache(),
    }
    indent = " " * 15
    return "\n".join(
        textwrap.fill(f"{name:15}{fact}", width, subsequent_indent=indent, break_on_hyphens=False)
        for name, fact in facts.items()
    )


def version(name: str) -> str:
    """The version of an installed package, or "no"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "no"


def compiler() -> str:
    """The compiler of the time loop on the CPU, or what its absence means."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        command = get_cpp_compiler()
        told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return f"none, so that time loops on the CPU run step by step ({type(error).__name__}); install g++"
    return f"{command}: {told.splitlines()[0]}"


def gpu() -> str:
    """The GPUs that torch can use."""
    if not torch.cuda.is_available():
        return "none that torch can use"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"


def cache() -> str:
    """Where compiled time loops are kept, and how much there is."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = Path(cache_dir())
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    return f"{folder}: {len(files)} files, {size:.0f} MiB; may be deleted"
