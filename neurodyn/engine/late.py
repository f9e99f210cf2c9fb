"""The compiling half of the engine, imported at its first use: Inductor takes seconds."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn


def program_of(net: nn.Module, xs: Sequence[Tensor], spec: Any) -> Any:
    """The program that `programs.program_for` finds."""
    return engine()[0](net, xs, spec)[0]


@functools.cache
def engine() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`programs.program_for` and `sequence.run`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Inductor's own imports
        # Torch imports setuptools to compile, which for a moment puts a finder before all others. A thread that imports
        # anything in that moment may not find it, so this is done before there are two.
        with contextlib.suppress(ImportError):
            importlib.import_module("setuptools")
        from .background import warm_up
        from .linear import _kernels
        from .programs import program_for
        from .rounds import library
        from .sequence import run

        warm_up(library, _kernels)
    return program_for, run
