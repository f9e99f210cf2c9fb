"""Hooks of modules, which have to be called at every step."""

from __future__ import annotations

from torch import nn

from ..torch_private import has_module_hooks
from .states import named_modules


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks of its own."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def hooked(net: nn.Module) -> str | None:
    """The name of a module inside `net` that has hooks; None if there is none."""
    for name, module in named_modules(net):
        if has_hooks(module):
            return name or type(module).__name__
    return "every module" if has_module_hooks() else None
