"""The value of a learned parameter, which is computed from what is trained, so that writing to it would be lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .torch_private import find, without_torch_function

#: Methods of tensors that end in an underscore, or begin with an i between underscores, and do not write to them.
_HARMLESS = {"requires_grad_", "__index__", "__invert__", "__int__", "__iter__", "__init__"}


class Computed(Tensor):
    """A value such as ``layer.tau`` of a layer that learns it. It reads as any tensor; writing to it is an error.

    So are writes to its ``.data``, ``.detach()`` and views. What is computed from it is a plain tensor.
    """

    said: Callable[[], tuple[str, str, str]]  # of which layer and parameter it is, and how such a value is written

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = _written(func, args, kwargs)
        if written is not None:
            label, name, example = written.said()
            raise RuntimeError(
                f"{label}: {name} is learned, so it is computed from raw_{name} each time that it is read, and writing "
                f"to it would change nothing; assign a value instead, layer.{name} = {example}"
            )
        with without_torch_function():
            found = func(*args, **kwargs)
        if isinstance(found, Tensor) and args and isinstance(args[0], Computed) and _shares(found, args[0]):
            return protected(found, args[0].said)
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        return plain(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return plain(self).__deepcopy__(memo)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return repr(plain(self))


def protected(value: Tensor, said: Callable[[], tuple[str, str, str]]) -> Tensor:
    """`value`, which cannot be written to."""
    with without_torch_function():
        found = value.as_subclass(Computed)
    found.said = said
    return found


def plain(value: Tensor) -> Tensor:
    """The same as an ordinary tensor."""
    with without_torch_function():
        return value.as_subclass(Tensor)  # type: ignore[arg-type]


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Computed | None:
    """What `func` would write to."""
    out = kwargs.get("out")
    for value in out if isinstance(out, (tuple, list)) else (out,):
        if isinstance(value, Computed):
            return value
    first = args[0] if args else next(iter(kwargs.values()), None)  # torch.nn.init passes keywords
    if not isinstance(first, Computed):
        return None
    name = getattr(func, "__name__", "")
    if name in ("__set__", "__setitem__"):  # __set__ of .data and .grad
        return first
    dunder = name.startswith("__") and name.endswith("__")
    writes = name.startswith("__i") if dunder else name.endswith("_")
    return first if writes and name not in _HARMLESS else None


def _shares(one: Tensor, other: Tensor) -> bool:
    with without_torch_function():
        return (
            one.layout == torch.strided
            and one.device == other.device
            and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        )


class _Inside(threading.local):
    depth = 0


_inside = _Inside()


class Stepping:
    """Inside, learned values are read as plain tensors: a step is no place where one would write to them."""

    def __enter__(self) -> None:
        _inside.depth += 1

    def __exit__(self, *_: object) -> None:
        _inside.depth -= 1


def is_read_by_user(raw: Tensor) -> bool:
    """Whether a value computed from `raw` goes to somebody who may want to write to it.

    Not what a trace, a transform, or a wrapper such as FSDP has in place of the parameter.
    """
    if type(raw) is not nn.Parameter or _inside.depth or torch.compiler.is_compiling():
        return False
    return not raw.is_meta and find("without_torch_function") is not None
