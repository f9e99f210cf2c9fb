"""Parameters by what an optimizer may do to them."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..core.fields import Parametrised


def parameter_groups(net: nn.Module, weight_decay: float = 0.0, **options: Any) -> list[dict[str, Any]]:
    """The parameters of `net` for an optimizer: those with weight decay, and those that have a physical meaning.

    Weight decay pulls what is trained towards 0. For a weight that is no connection; for ``raw_tau``, the logarithm of
    a time constant, it is 1 ms, for a potential 0 mV, for a learned delay the middle between its bounds. So the
    declared parameters of models, such as tau, V_th and delays, are a group of their own without decay.

    Args:
        net: any module.
        weight_decay: of all other parameters.
        options: of the group of declared parameters, such as ``lr=1e-2``: a logarithm may need larger steps than a
            weight.

    Returns:
        Groups that are not empty. A parameter that is used at two places is in one group.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), nd.LIF(4, learn="tau"))
        >>> groups = nd.parameter_groups(net, weight_decay=1e-2, lr=1e-2)
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
        >>> [(len(group["params"]), group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
        [(2, 0.01, 0.001), (1, 0.0, 0.01)]
    """
    if "params" in options:
        raise TypeError("parameter_groups: the options are those of a group, such as lr=; it finds the params itself")
    declared = {}
    for module in net.modules():
        if isinstance(module, Parametrised):
            names = {*module.params, *(f"raw_{name}" for name in module.params)}
            held = list(module.named_parameters(recurse=False))
            for name, part in getattr(module, "parametrizations", nn.ModuleDict()).items():
                held += [(name, value) for value in part.parameters()]
            declared.update({id(value): value for name, value in held if name.removesuffix("_orig") in names})
    others = [value for value in net.parameters() if id(value) not in declared]
    groups = [
        {"params": others, "weight_decay": weight_decay},
        {"params": list(declared.values()), "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]
