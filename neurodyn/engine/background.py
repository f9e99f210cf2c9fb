"""The C++ compiler at work in the background, on one chunk while the next one is traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
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
    for task in (_try_instruction_sets, *tasks):
        pool.submit(task)
    pool.shutdown(wait=False)


def _try_instruction_sets() -> None:
    """Compile for each of them, as Inductor will; from the last one on, so that both meet in the middle."""
    known = x86_isa_checker()
    for isa in reversed(supported_vec_isa_list):
        if all(flag in known for flag in str(isa).split()):
            bool(isa)
