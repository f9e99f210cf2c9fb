"""A neuron that starts or rests at or above its threshold, because a default does not fit to it, says so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from ..core.fields import show
from ..tools.user_warning import warn_user


class ThresholdWarning(UserWarning):
    """All neurons of a layer start or rest at or above their threshold, by a default that was left as it is.

    With ``nd.LIF(5, V_rest=-60 * u.mV, V_reset=-60 * u.mV, V_th=-50 * u.mV)`` V starts at 0 mV, the default, and every
    neuron fires at once; without ``V_rest``, which is 0 mV then, it fires for ever. Give the parameter that the warning
    names, ``V_initializer=-60 * u.mV``; whoever names it hears nothing, whatever its value.
    """


def warn_if_above_threshold(neuron: Any, given: Collection[str]) -> None:
    """Say it where `neuron` is built; `given` are the parameters that its user has named."""
    if not neuron.fires_while_above:
        return
    rest = next((name for name in ("V_rest", "E_L") if name in neuron.params), "")
    start, threshold = neuron.thresholds
    faults: dict[str, str] = {}
    for name, limit, what in (
        (rest, threshold, "fires for ever"),
        ("V_initializer", start, "starts there and may fire in its first step"),
    ):
        if name in given or name not in neuron.params or limit not in neuron.params:
            continue
        value, bound = getattr(neuron, name).detach(), getattr(neuron, limit).detach()
        if bool((value >= bound).all()):
            unit = neuron.params[name].unit
            shown = f"{name} is {show(value, unit)} by default, and {limit} is {show(bound, unit)}"
            faults[name] = f"{shown}, so that every neuron {what}"
    if faults:
        example = _below(neuron, rest, threshold)
        wanted = ", ".join(f"{name}={example:g} * u.mV" for name in faults)
        fixed = "" if rest or isinstance(neuron.V_reset, torch.Tensor) else "; it rests at 0 mV, nd.LIF has V_rest"
        warn_user(f"{neuron._label()}: {'; '.join(faults.values())}. Give {wanted}{fixed}", ThresholdWarning)


def _below(neuron: Any, rest: str, threshold: str) -> float:
    """A potential below the threshold, in mV: that of rest or of the reset, or else one chosen here."""
    bound = getattr(neuron, threshold).detach()
    for name in (rest, "V_reset"):
        value = torch.as_tensor(getattr(neuron, name, torch.inf)).detach()
        if bool((value < bound).all()):
            return float(value.min())
    return float(bound.min()) - 10
