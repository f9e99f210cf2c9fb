"""Time constants that a short dtype cannot follow."""

from __future__ import annotations

import torch

from .. import units
from ..tools.user_warning import warn_user
from ..torch_private import is_fake
from .fields import Parametrised, nonnegative, positive, show

_WRONG_BY_1_PERCENT = 0.23  # of dt / epsilon: measured, see `warn_of_standstill`


def warn_of_standstill(layer: Parametrised, dt: float) -> None:
    r"""Warn of each time constant $\tau$ that a state in the dtype of `layer` cannot follow.

    A state x changes by about $x\,dt/\tau$ in a step, and is rounded. Between neighbouring numbers there are
    $\epsilon x / 2$ to $\epsilon x$, so with $dt/\tau < \epsilon/4$ every x is rounded back to what it was and stands
    still: in bfloat16 above 512 dt, in float16 above 4,096 dt, in float32 above 3e7 dt.

    Below that a change is a whole number of those distances. Where these are few, x decays with another time constant,
    another one at each x. Over starts from 1 to 2, the time in which x falls to 1/e is wrong by at most 0.12 % for
    tau = 1e6 dt in float32, 1.03 % for 2e6 dt, 2 % for 3e6 dt and 15 % for 1e7 dt. So in float32 a warning comes from
    where the error can be 1 %, $\epsilon \tau / dt = 0.23$. In half precision, in which a number is wrong by up to
    0.4 % by itself, it comes from the standstill on.
    """
    milliseconds = None
    for name, field in layer.params.items():
        decays = field.domain is positive or (field.domain is nonnegative and name.startswith("tau"))  # no delay does
        if not decays or field.counts:
            continue
        tau = getattr(layer, name).detach()
        if tau.is_meta or is_fake(tau) or not tau.numel():
            continue
        milliseconds = milliseconds or units.canonical_unit("ms")
        if field.unit != milliseconds:
            continue
        epsilon, kind = torch.finfo(tau.dtype).eps, str(tau.dtype).removeprefix("torch.")
        half = torch.finfo(tau.dtype).bits < 32
        longest = dt / epsilon * (4 if half else _WRONG_BY_1_PERCENT)
        if not bool((tau.double() > longest).any()):
            continue
        slow = f"{layer._label()}: {name}={show(tau, milliseconds)} is too slow for {kind} at dt={dt:g} ms:"
        if half:
            warn_user(
                f"{slow} a state that decays changes in a step by less than what is rounded, so that above "
                f"{longest:g} ms it stands still. Keep this layer in float32, layer.float() after net.to(torch.{kind}),"
                f" which takes {kind} inputs too; or keep the network in float32 and use torch.autocast",
                UserWarning,
            )
        else:
            warn_user(
                f"{slow} what a state changes in a step is rounded, so that above {longest:.3g} ms it decays with a "
                f"time constant that is wrong by more than 1 %, and above {4 * dt / epsilon:.2g} ms it stands still. "
                f"Build this layer with dtype=torch.float64, or take a longer dt",
                UserWarning,
            )
