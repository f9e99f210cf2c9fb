"""The number of parameters of a network."""

from __future__ import annotations

from torch import nn


def count_parameters(net: nn.Module, *, frozen: bool = False) -> int:
    """The number of trainable values in `net`; a tensor that is used at two places counts once.

    Args:
        net: any module.
        frozen: count parameters that require no gradient as well. Values of a model that are not in ``learn=`` are
            buffers and never count.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(12, 64), nd.LIF(64, tau=nd.init.Constant(5 * u.ms), learn="tau"))
        >>> nd.count_parameters(net)
        896
        >>> {name: nd.count_parameters(layer) for name, layer in net.named_children()}
        {'0': 832, '1': 64}
    """
    return sum(parameter.numel() for parameter in net.parameters() if frozen or parameter.requires_grad)
