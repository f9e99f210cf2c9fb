"""Compiles the C++ files of the package at their first use, and finds them again in a cache of the user's.

Environment variables: ``CXX``, the compiler (g++ by default); ``NEURODYN_CXXFLAGS``, flags to add;
``NEURODYN_CACHE_DIR``, where libraries are kept (``~/.cache/neurodyn`` by default).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

_FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp", "-shared", "-fPIC")
_ENOUGH = 2**26  # free bytes; with less, a failed compiler is likely to have filled the disk


class NotAvailable(RuntimeError):
    """A C++ file cannot be compiled or loaded here; the message says why, and what helps."""


@functools.cache
def load(path: Path, *flags: str) -> ctypes.CDLL:
    """The library made of the C++ file `path`, compiled with `flags` besides the usual ones; torch's headers are found.

    Processes may call this at the same time. What was compiled is kept for this source and the headers beside it, these
    flags, compiler, processor and torch. If the cache cannot be written to, the library is made in a temporary folder.

    Raises:
        NotAvailable: no compiler, one that fails, or a library that cannot be loaded.
    """
    compiler = _compiler()
    command = [*compiler, *_FLAGS, *_of_torch(), *flags, *shlex.split(os.environ.get("NEURODYN_CXXFLAGS", ""))]
    try:
        source = path.read_text(), *[header.read_text() for header in sorted(path.parent.glob("*.h"))]
        key = (*source, *command, _run([*compiler, "--version"]), torch.__version__, _processor())
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotAvailable(
            f"{path.name} needs a C++ compiler, and {shlex.join(compiler)!r} cannot be run ({error}); install g++, or "
            "set CXX to a compiler that takes its flags"
        ) from error
    library = _cache() / f"{path.stem}-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.so"
    if library.exists():
        try:
            return ctypes.CDLL(str(library))
        except OSError:  # half a file, or one made for another system: make it anew
            pass
    try:
        return _into_cache(command, path, library)
    except OSError:
        return _aside(command, path)


@functools.cache
def has_vectors() -> bool:
    """Whether the C++ compiler and torch both know the vector instructions of this processor.

    Inductor would find out by compiling a file with torch's headers for each set of them, which takes 6 s.
    """
    macro = {"AVX512": "__AVX512F__", "AVX2": "__AVX2__"}.get(torch.backends.cpu.get_cpu_capability())
    try:
        macros = _run([*_compiler(), *"-march=native -dM -E -x c++ /dev/null".split()])
    except (OSError, subprocess.CalledProcessError):
        return False
    return f"#define {macro} " in macros


def _into_cache(command: list[str], path: Path, library: Path) -> ctypes.CDLL:
    """Raises OSError if nothing can be written there."""
    library.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and put in place at once: a process that is killed leaves no lock and no half a file.
    with tempfile.TemporaryDirectory(dir=library.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / library.name
        try:
            _compile(command, path, made)
        except NotAvailable:
            if shutil.disk_usage(folder).free < _ENOUGH:
                raise OSError(f"the disk of {folder} is full") from None
            raise
        os.replace(made, library)
    return _open(path, library)


def _aside(command: list[str], path: Path) -> ctypes.CDLL:
    """Compiled and loaded in a temporary folder, which is gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix="neurodyn-", ignore_cleanup_errors=True) as folder:
            made = Path(folder) / f"{path.stem}.so"
            _compile(command, path, made)
            return _open(path, made)
    except OSError as error:
        raise NotAvailable(
            f"{path.name} cannot be compiled: neither {_cache()} nor a temporary folder can be written to ({error}); "
            "set NEURODYN_CACHE_DIR to a folder with some free space"
        ) from error


def _compile(command: list[str], path: Path, made: Path) -> None:
    torch_libraries = ["-L", str(Path(torch.__file__).parent / "lib"), "-ltorch_cpu", "-lc10"]
    try:
        _run([*command, str(path), "-o", str(made), *torch_libraries])
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "nothing").strip()
        raise NotAvailable(
            f"{path.name} cannot be compiled; {command[0]} said: {said[:2000]}\nA recent g++ takes it; set CXX to one"
        ) from error


def _open(path: Path, library: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise NotAvailable(
            f"{path.name} was compiled and cannot be loaded ({error}); set CXX to the compiler of this system"
        ) from error


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["g++"]


def _run(command: list[str]) -> str:
    # What is loaded into this process, such as a sanitizer, is not meant for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def _of_torch() -> list[str]:
    include = Path(torch.__file__).parent / "include"
    folders = [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}"]
    return [*folders, "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else folders


def _cache() -> Path:
    if given := os.environ.get("NEURODYN_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neurodyn"


@functools.cache
def _processor() -> str:
    """What -march=native depends on: a cache may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)}))
