"""Time constants that a short dtype cannot follow."""

from __future__ import annotations

import torch

from .. import units
from ..tools.user_warning import warn_user
from ..torch_private import is_fake
from .fields import Parametrised, positive, show


def warn_of_standstill(layer: Parametrised, dt: float) -> None:
    r"""Warn of each time constant $\tau$ for which a state in the dtype of `layer` would stand still.

    A state x changes by about $x\,dt/\tau$ in a step, and is rounded. Between neighbouring numbers there are
    $\epsilon x / 2$ to $\epsilon x$, so with $dt/\tau < \epsilon/4$ every x is rounded back to what it was: in
    bfloat16 above 512 dt, in float16 above 4,096 dt. In float32, where it begins at 3e7 dt, it is not looked for.
    """
    milliseconds = None
    for name, field in layer.params.items():
        if field.domain is not positive or field.counts:
            continue
        tau = getattr(layer, name).detach()
        if torch.finfo(tau.dtype).bits >= 32 or tau.is_meta or is_fake(tau) or not tau.numel():
            continue
        milliseconds = milliseconds or units.canonical_unit("ms")
        if field.unit != milliseconds:
            continue
        smallest = torch.finfo(tau.dtype).eps / 4
        if bool((tau.double() * smallest > dt).any()):
            kind = str(tau.dtype).removeprefix("torch.")
            warn_user(
                f"{layer._label()}: {name}={show(tau, milliseconds)} is too slow for {kind} at dt={dt:g} ms: a state "
                f"that decays changes in a step by less than what is rounded, so that above {dt / smallest:g} ms it "
                f"stands still. Keep this layer in float32, layer.float() after net.to(torch.{kind}), which takes "
                f"{kind} inputs too; or keep the network in float32 and use torch.autocast",
                UserWarning,
            )
