"""A step that is only tried: on a copy, so that nothing of it stays."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .states import get_states, pure


def copy_of(net: nn.Module) -> nn.Module:
    """A copy for one step, without hooks, so that what the step does besides returning is done to the copy."""
    tensors = [x for m in net.modules() for x in (*dict.values(m._buffers), *vars(m).values()) if isinstance(x, Tensor)]
    memo = {id(x): x.detach().clone() for x in tensors if not x.is_leaf}  # deepcopy refuses tensors with a graph
    twin = copy.deepcopy(net, memo)
    for module in twin.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            hooks.clear()
    return twin


def step_of(net: nn.Module, inputs: list[Tensor]) -> Any:
    """Output and states after one step; None if it fails or changes the shape of a state."""
    before = get_states(net)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            output, after = pure(net, before, *inputs)
        except Exception:  # whatever a network raises for an input that it does not take
            return None
    same = all(value.shape == before[name].shape for name, value in after.items())
    return (output, after) if same else None


def equal(a: Any, b: Any) -> bool:
    """Whether two results of `step_of` are the same."""
    (left, spec), (right, other) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    pairs = zip(left, right, strict=False)
    return spec == other and all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)
