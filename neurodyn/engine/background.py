"""The C++ compiler at work in the background, on one chunk while the next one is traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch._inductor.async_compile import AsyncCompile
from torch._inductor.codecache import CodeCacheFuture
from torch._inductor.cpu_vec_isa import supported_vec_isa_list, x86_isa_checker

#: The names in a module that Inductor wrote, its kernels among them, or what will give them.
Names = dict[str, Any]


@contextlib.contextmanager
def in_background(wanted: bool) -> Iterator[list[Names]]:
    """Inside, if `wanted`, Inductor does not wait for compilers; what it wrote is found in the list, for `wait_for`."""
    wait, thread = AsyncCompile.wait, threading.get_ident()
    written: list[Names] = []

    def later(self: AsyncCompile, scope: Names) -> None:
        if wanted and threading.get_ident() == thread:
            written.append(scope)
        else:
            wait(self, scope)

    AsyncCompile.wait = later
    try:
        yield written
    finally:
        AsyncCompile.wait = wait


def wait_for(written: Iterable[Names]) -> None:
    """Put the kernels in their places as soon as they are compiled.

    Raises:
        Exception: what the compiler said.
    """
    for names in written:
        for name, kernel in names.items():
            if isinstance(kernel, CodeCacheFuture):
                names[name] = kernel.result()


def warm_up(*tasks: Callable[[], object]) -> None:
    """Begin what the first compilation of a process needs: instruction sets are tried out, and the `tasks` done."""
    pool = ThreadPoolExecutor(max_workers=1)
    # From the last one on: the thread that compiles begins with the first, and they meet in the middle.
    pool.submit(try_instruction_sets, supported_vec_isa_list[::-1])
    for task in tasks:
        pool.submit(task)
    pool.shutdown(wait=False)


_trying = {str(isa): threading.Lock() for isa in supported_vec_isa_list}


def try_instruction_sets(sets: Sequence[Any] = supported_vec_isa_list) -> None:
    """Compile for each of them, once in a process.

    Inductor does so by itself, but while it does, the set has other flags, with which no other thread may compile: the
    kernels would work, and not be found again in the cache.
    """
    known = x86_isa_checker()
    for isa in sets:
        if all(flag in known for flag in str(isa).split()):
            with _trying[str(isa)]:
                bool(isa)
