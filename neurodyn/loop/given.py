"""What `unroll` is given: checked, and where it is of another layout, the call that makes it right."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..core.dynamics import Dynamics
from ..core.states import named_dynamics
from ..torch_private import tree_leaves
from .layers import stages

_PADDED = "which runs all sequences; nd.last(ys, lengths) and nd.step_mask(lengths, T) then leave the padding out"


def arguments_of(xs: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """The arguments of the module, with time in front, and the tensors in them.

    Raises:
        TypeError: packed or nested sequences, or something that is no tensor.
        ValueError: no tensor, no time step, or tensors with different numbers of steps.
    """
    if type(xs) is Tensor and not xs.is_nested and xs.dim() and xs.shape[0] != 0:
        return (xs,), [xs]
    if isinstance(xs, PackedSequence):
        raise TypeError(
            "unroll: xs is packed (a PackedSequence), wanted a padded tensor (T, batch, ...): "
            f"xs, lengths = torch.nn.utils.rnn.pad_packed_sequence(xs), {_PADDED}"
        )
    if not isinstance(xs, (Tensor, tuple, list)):
        raise TypeError(
            f"unroll: xs is a {type(xs).__name__}, wanted a tensor (T, *batch, ...) with time in front, such as "
            "torch.as_tensor(xs), or a tuple of such tensors for several arguments"
        )
    arguments = (xs,) if isinstance(xs, Tensor) else tuple(xs)
    leaves = tree_leaves(arguments)
    for x in leaves:
        if not isinstance(x, Tensor):
            raise TypeError(f"unroll: xs holds a {type(x).__name__}, wanted tensors (T, *batch, ...)")
        if x.is_nested:
            raise TypeError(
                "unroll: xs is nested, sequences of different lengths in one tensor; wanted a padded tensor "
                f"(T, batch, ...): xs = torch.nn.utils.rnn.pad_sequence(xs.unbind()), {_PADDED}"
            )
        if not x.dim():
            raise ValueError("unroll: xs holds a single number, wanted tensors (T, *batch, ...) with time in front")
    if not leaves:
        raise ValueError("unroll: xs holds no tensor; wanted one (T, *batch, ...), or a tuple for several arguments")
    T = leaves[0].shape[0]
    for x in leaves:
        if x.shape[0] != T:  # compared one by one: inside torch.export they are symbols
            raise ValueError(
                f"unroll: xs holds tensors with {T} and {x.shape[0]} time steps; a tuple holds the arguments of one "
                "call, with the same number of time steps in front. Sequences of different lengths make one padded "
                f"tensor: xs = torch.nn.utils.rnn.pad_sequence(sequences), {_PADDED}"
            )
    if T == 0:
        raise ValueError(
            f"unroll: xs has no time step, its shape is {tuple(leaves[0].shape)}; wanted tensors with the same "
            "number of time steps in front, one or more"
        )
    return arguments, leaves


def explain_layout(error: Exception, module: nn.Module, arguments: tuple[Any, ...], states: bool) -> None:
    """Add to an error about shapes that xs has its batch in front, where that can be told.

    It can be told from what the first layer takes, if time lies last; and from states that were given.
    """
    x = arguments[0]
    if isinstance(error, TypeError):
        if len(arguments) > 1:
            error.add_note(
                f"xs holds {len(arguments)} tensors, and unroll passes a tuple or list as the arguments of one call; a "
                "batch of sequences is one tensor (T, batch, ...): torch.stack(xs, 1)"
            )
        return
    if len(arguments) != 1 or not isinstance(x, Tensor) or x.dim() < 3:
        return
    way = ""
    features = _features(module)
    if features is not None and x.dim() == 3 and x.shape[-1] != features and x.shape[1] == features:
        way = f"(batch, {features}, time): use xs.permute(2, 0, 1)"
    held = {tuple(layer.batch) for _, layer in named_dynamics(module) if layer.is_set} if states else set()
    if len(held) == 1 and (batch := held.pop()) != tuple(x.shape[1 : 1 + len(batch)]) and batch[:1] == x.shape[:1]:
        way = f"(batch, time, ...), as the states have batch {batch}: use xs.transpose(0, 1)"
    if way:
        error.add_note(f"unroll takes time in front, (T, *batch, ...); xs has shape {tuple(x.shape)}, perhaps {way}")


def _features(module: nn.Module) -> int | None:
    """The last size that the first layer takes."""
    first = next(stages(module), module)
    if isinstance(first, nn.Linear):
        return first.in_features
    return first.input_size[-1] if isinstance(first, Dynamics) and first.input_size else None
