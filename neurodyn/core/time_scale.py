"""A model whose time step is longer than its own time scale says so: where it is built, or given other parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..tools.user_warning import warn_user
from ..torch_private import inside_transform, is_fake


class TimeStepWarning(UserWarning):
    """The time step of a model is longer than the shortest time scale of its equations, so its numbers are wrong.

    Or, with ``unroll(gradient="eventprop")``, than the time between two spikes, which the grid cannot tell apart.
    """


def unresolved(model: Any) -> str:
    """What there is to say about the time step of a model, or nothing; its `time_scale`, if it has one, is in ms."""
    scale, rounding = getattr(model, "time_scale", None), 1e-6
    if isinstance(scale, Tensor):
        if scale.is_meta or torch.compiler.is_compiling() or inside_transform() or is_fake(scale):
            return ""  # no value that could be read
        scale, rounding = float(scale.detach().min()), 8 * torch.finfo(scale.dtype).eps
    if scale is None or model.dt <= scale * (1 + rounding):
        return ""
    way_out = ", or build it with exact=True" if getattr(model, "exact", None) is False else ""
    return (
        f"dt={model.dt:g} ms is longer than its own time scale of {scale:g} ms, so that it does something else than "
        f"its equations; use dt={scale:.2g} * u.ms or less{way_out}"
    )


def warn_if_unresolved(model: Any) -> None:
    """Say it where the model is built, or a parameter set."""
    if message := unresolved(model):
        warn_user(f"{model._label()}: {message}", TimeStepWarning)
