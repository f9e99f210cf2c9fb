"""The compiling half of the engine, imported at its first use: Inductor takes seconds."""

from __future__ import annotations

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
        for package in ("sympy.combinatorics", "sympy.tensor"):  # not by two threads at once
            importlib.import_module(package)
        from .background import warm_up
        from .linear import _kernels
        from .programs import program_for
        from .replay import _library
        from .sequence import run

        warm_up(_library, _kernels)
    return program_for, run
