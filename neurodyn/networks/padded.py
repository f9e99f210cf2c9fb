"""Batches of sequences of different lengths, padded at the end to one tensor.

A network with states looks at no later step, so what it gives before the end of a sequence does not depend on the
padding: a loss that reads no padded step has the numbers and the gradients of each sequence run alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..torch_private import inside_transform


def step_mask(lengths: Tensor, T: int) -> Tensor:
    """Which steps belong to a sequence and which are padding: ``(T, *batch)`` of bool, True before the end.

    ``ys[mask]`` are the outputs of all real steps, ``(n, ...)``; ``labels[mask]`` the labels beside them.

    Args:
        lengths: number of steps of each sequence, ``(*batch,)``, from 0 to T.
        T: number of steps of the padded batch.

    Raises:
        TypeError: lengths that are no tensor of whole numbers.
        ValueError: a length outside 0 to T.

    Example:
        >>> nd.step_mask(torch.tensor([1, 3]), 3)
        tensor([[ True,  True],
                [False,  True],
                [False,  True]])
    """
    lengths = _checked("step_mask", lengths, T, 0)
    steps = torch.arange(T, device=lengths.device).view(-1, *[1] * lengths.dim())
    return steps < lengths


def last(ys: Tensor, lengths: Tensor) -> Tensor:
    """The output of the last step of each sequence, ``(*batch, ...)``, with its gradient.

    Also of a recorded state: ``nd.last(recording["1.V"].values, lengths)`` is V at the end of each sequence, while
    `get_states` has it at the end of the padding.

    Args:
        ys: ``(T, *batch, ...)``, from a padded batch.
        lengths: number of steps of each sequence, ``(*batch,)``, from 1 to T.

    Raises:
        TypeError: lengths that are no tensor of whole numbers.
        ValueError: a length outside 1 to T, or of another batch.

    Example:
        >>> xs = [torch.rand(5, 3), torch.rand(8, 3)]
        >>> ys = nd.unroll(nd.LIF(3), torch.nn.utils.rnn.pad_sequence(xs), compile=False)
        >>> nd.last(ys, torch.tensor([5, 8])).shape
        torch.Size([2, 3])
    """
    lengths = _checked("last", lengths, ys.shape[0], 1).to(ys.device)
    batch = tuple(ys.shape[1 : 1 + lengths.dim()])
    if batch != tuple(lengths.shape):
        first = lengths.dim() == 1 and ys.dim() > 1 and ys.shape[0] == len(lengths)
        hint = "; ys has its batch in front, use ys.transpose(0, 1)" if first else ""
        raise ValueError(
            f"last: lengths has shape {tuple(lengths.shape)}, wanted the batch of ys, which has shape "
            f"{tuple(ys.shape)} with time in front{hint}"
        )
    index = (lengths.long() - 1).view(1, *batch, *[1] * (ys.dim() - 1 - lengths.dim()))
    return ys.gather(0, index.expand(1, *ys.shape[1:]))[0]


def _checked(name: str, lengths: Tensor, T: int, least: int) -> Tensor:
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype in (torch.bool, torch.cfloat):
        got = f"a tensor of {lengths.dtype}" if isinstance(lengths, Tensor) else f"a {type(lengths).__name__}"
        raise TypeError(
            f"{name}: lengths must be a tensor of whole numbers, got {got}; for example "
            "torch.tensor([len(x) for x in sequences])"
        )
    if torch.compiler.is_compiling() or inside_transform():  # a program, whose lengths have no values yet
        return lengths
    if lengths.numel() and not least <= int(lengths.min()) <= int(lengths.max()) <= T:
        raise ValueError(
            f"{name}: lengths must lie between {least} and the {T} steps of the padded batch, got "
            f"{int(lengths.min())} to {int(lengths.max())}"
        )
    return lengths
