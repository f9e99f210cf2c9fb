"""Linear maps: the modules whose weights get eligibility traces, and where a step is cut."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..connections import Connection, LoRA, Sparse
from ..core.states import named_dynamics

#: Maps along the last dimension: their output is x A^T + b with a matrix A.
_DENSE = (nn.Linear, Connection, LoRA, Sparse)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def named_maps(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The linear maps in `module`, with their names; what lies inside of one belongs to it."""
    if isinstance(module, (*_DENSE, *_CONVOLUTIONS)) and not named_dynamics(module):
        yield path, module
        return
    for name, child in module.named_children():
        yield from named_maps(child, f"{path}.{name}" if path else name)


def is_dense(map: nn.Module) -> bool:
    """Whether it is a matrix along the last dimension."""
    return isinstance(map, _DENSE)


def split(map: nn.Module) -> tuple[list[nn.Parameter], nn.Parameter | None]:
    """The trained parameters of the matrix, and the bias if it is trained.

    The bias is what a map adds whatever its input; only one of that name, at the top, is known.
    """
    bias = map._parameters.get("bias")
    trained = [p for p in map.parameters() if p.requires_grad and p is not bias]
    return trained, bias if bias is not None and bias.requires_grad else None


def add_grad(parameter: Tensor, grad: Tensor | None) -> None:
    """Add to the ``.grad`` of a parameter, as a backward pass does."""
    if grad is None:
        return
    grad = grad.to(parameter.dtype)
    parameter.grad = grad.clone() if parameter.grad is None else parameter.grad + grad


def add_matrix_grad(map: nn.Module, grad: Tensor) -> None:
    """Pull a gradient by the matrix A (out, in) back to the parameters that A is made of."""
    weights, _ = split(map)
    if not weights:
        return
    if type(map) is nn.Linear and weights == [map.weight]:
        add_grad(map.weight, grad)
        return
    add_weight_grads_at(map, torch.eye(grad.shape[1], dtype=grad.dtype, device=grad.device), grad.T)


def add_weight_grads_at(map: nn.Module, x: Tensor, grad_output: Tensor) -> None:
    """Add the gradients of the parameters of the matrix for the input `x`, whatever the map is made of."""
    weights, _ = split(map)
    if not weights:
        return
    with torch.enable_grad():
        found = torch.autograd.grad(map(x.detach()), weights, grad_output, allow_unused=True)
    for parameter, value in zip(weights, found, strict=True):
        add_grad(parameter, value)


def add_bias_grad(map: nn.Module, grad_output: Tensor) -> None:
    """Add the gradient of the bias, which each place of its channel has the same of."""
    _, bias = split(map)
    if bias is None:
        return
    channel = grad_output.dim() - 1 - (len(map.kernel_size) if isinstance(map, _CONVOLUTIONS) else 0)
    others = [i for i in range(grad_output.dim()) if i != channel]
    grad = grad_output.sum(others) if others else grad_output
    add_grad(bias, grad.sum_to_size(bias.shape))
