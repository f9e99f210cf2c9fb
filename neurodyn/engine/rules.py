"""Inductor's rules for types are made once: before torch 2.14 it makes them anew for each operation that it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def rules_once() -> Iterator[None]:
    """Inside, they are made again only if there are more of them (github.com/pytorch/pytorch/pull/192820)."""
    if torch.__version__ >= "2.14":
        yield
        return
    from torch._inductor.dtype_propagation import DtypePropagationOpsHandler as Rules
    from torch._inductor.utils import op_dtype_propagation_rules as registered

    make, made = Rules.__init__, -1

    def make_new(self: Rules) -> None:
        nonlocal made
        if made != len(registered):
            make(self)
            made = len(registered)

    Rules.__init__ = make_new
    try:
        yield
    finally:
        Rules.__init__ = make
