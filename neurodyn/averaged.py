"""Averages of parameters over training, for networks with states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.optim import swa_utils

from .states import hold_states, named_dynamics


class AveragedModel(swa_utils.AveragedModel):
    """``torch.optim.swa_utils.AveragedModel`` for networks with states, with the same arguments.

    Parameters are averaged as there. States are left alone: the average runs on data of its own, with a batch of its
    own. (torch's class pairs up the buffers of the two networks by their order, in which states that are not yet set
    do not count.)

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), nd.LIF(4, learn="tau"))
        >>> average = nd.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
        >>> y = net(torch.rand(8, 3))
        >>> average.update_parameters(net)  # after each step of the optimizer
        >>> average(torch.rand(2, 3)).shape
        torch.Size([2, 4])
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Take the parameters of `model` into the average."""
        with _without_states(self.module), _without_states(model):
            super().update_parameters(model)


@contextlib.contextmanager
def _without_states(net: nn.Module) -> Iterator[None]:
    restore = hold_states(net)
    for _, module in named_dynamics(net):
        module.unset_state()
    try:
        yield
    finally:
        restore()
