"""`unroll`: a learner over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..loop.given import arguments_of
from ..torch_private import tree_map
from .learner import Learner


def unroll(learner: Learner, xs: Any, loss: Callable[[Any, int], Tensor | None], *, reset: bool = True) -> Tensor:
    """Run a learner over the time steps of `xs` and add the gradients of the sum of the losses.

    Args:
        learner: such as ``nd.online.DRTRL(net)``.
        xs: as for `neurodyn.unroll`, time first: ``(T, *batch, ...)``, or a tuple of such tensors.
        loss: ``loss(y, t)`` of what the network returns at step t; None where there is nothing to learn.
        reset: start from initial states and without traces, with a batch of the shape that the input has.

    Returns:
        The losses, ``(T,)``, detached; 0 where there was none.

    Raises:
        TypeError, ValueError: what `neurodyn.unroll` does not take either.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), nd.LIF(5), torch.nn.Linear(5, 2))
        >>> xs, targets = torch.rand(20, 4, 3), torch.rand(20, 4, 2)
        >>> losses = nd.online.unroll(nd.online.DRTRL(net), xs, lambda y, t: (y - targets[t]).square().mean())
        >>> losses.shape
        torch.Size([20])
    """
    arguments, leaves = arguments_of(xs)
    if reset:
        learner.restart()
    losses = torch.zeros(len(leaves[0]), dtype=leaves[0].dtype, device=leaves[0].device)
    for t in range(len(losses)):
        value = loss(learner(*tree_map(lambda x, t=t: x[t], arguments)), t)
        if value is not None:
            learner.backward(value)
            losses[t] = value.detach()
    return losses
