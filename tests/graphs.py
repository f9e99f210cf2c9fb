"""Compiled chunks without Inductor: their graphs run as they are, which tells what is traced and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def uncompiled(graph: Callable[..., Any], *_: Any) -> Callable[[list[Any]], Any]:
    """In place of `compiled_chunk.compiled`."""
    return lambda arguments: graph(*arguments)
