"""``neurodyn info``: what this installation runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import torch

from ..torch_private import compile_cache, cpp_compiler

_REQUIRED, _OPTIONAL = ("torch", "numpy", "pint"), ("matplotlib", "tqdm", "safetensors", "pandas", "neo")


def info(width: int = 80) -> str:
    """Versions, threads, compiler, GPU and compile cache, a paragraph each."""
    facts = {
        "neurodyn": f"{version('neurodyn')}, Python {platform.python_version()}, {platform.system()}",
        "requires": ", ".join(f"{name} {version(name)}" for name in _REQUIRED),
        "extras": ", ".join(f"{name} {version(name)}" for name in _OPTIONAL),
        "threads": f"{torch.get_num_threads()} on {os.cpu_count()} cores (to change: OMP_NUM_THREADS)",
        "C++ compiler": compiler(),
        "GPU": _unless_it_fails(gpu),
        "compile cache": _unless_it_fails(cache),
    }
    indent = " " * 15
    return "\n".join(
        textwrap.fill(f"{name:15}{fact}", width, subsequent_indent=indent, break_on_hyphens=False)
        for name, fact in facts.items()
    )


def _unless_it_fails(fact: Callable[[], str]) -> str:
    try:
        return fact()
    except Exception as error:  # a driver, a folder of somebody else: the other facts are all the more wanted
        return f"cannot be told ({_said(error)})"


def version(name: str) -> str:
    """The version of an installed package, or "no"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "no"


def compiler() -> str:
    """The compiler of the time loop on the CPU, whether it works, and what it means if not."""
    without = "so that time loops on the CPU run step by step, with the same numbers; install g++, or set CXX to one"
    try:
        command = cpp_compiler()
    except Exception as error:  # of a torch that looks for it in another way as well
        named = os.environ.get("CXX")
        return f"{f'CXX={named} does not work' if named else 'none found'} ({_said(error)}), {without}"
    try:
        told = subprocess.run([command, "--version"], capture_output=True, text=True, errors="replace", timeout=60)
        _try_out(command)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"{command} was found and does not work ({_said(error)}), {without}"
    return f"{command}, works: {(told.stdout.splitlines() or ['unknown version'])[0]}"


def _try_out(command: str) -> None:
    """Compile a library of one line."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "one.cpp", Path(folder) / "one.so"
        source.write_text('#include <cmath>\nextern "C" double one(double x) { return std::exp(x); }\n')
        how = ["-shared", "-fPIC", "-o", str(library)] if os.name == "posix" else ["/LD", f"/Fe{library}"]
        done = subprocess.run(
            [command, str(source), *how], capture_output=True, text=True, errors="replace", timeout=60, cwd=folder
        )
        if done.returncode or not library.exists():
            raise ValueError(done.stderr.strip() or f"it made nothing, exit status {done.returncode}")


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def gpu() -> str:
    """The GPUs that torch can use."""
    if not torch.cuda.is_available():
        return "none that torch can use"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"


def cache() -> str:
    """Where compiled time loops are kept, and how much there is."""
    folder = Path(compile_cache())
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    return f"{folder}: {len(files)} files, {size:.0f} MiB; may be deleted"
