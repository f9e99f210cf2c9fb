"""A state that has become NaN is said: which, of which model, and in which step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..tools.user_warning import warn_user
from .fields import name_of
from .states import named_dynamics


class NaNWarning(UserWarning):
    """A state of a network has become NaN, and stays so."""


def nan_in(states: Mapping[str, Tensor]) -> list[str]:
    """The names of the states that are NaN somewhere."""
    return [name for name, value in states.items() if may_be_nan(value) and bool(value.isnan().any())]


def may_be_nan(value: Tensor) -> bool:
    """Whether the sum is NaN: as it is if a part of it is, and also if there are infinities; faster than isnan."""
    if not value.is_floating_point():
        return False
    total = value.detach().sum().item()
    return total != total


def say_nan(caller: str, net: nn.Module, states: Mapping[str, Tensor], names: list[str], when: str, hint: str) -> None:
    """Warn of the first state in `names`, and name the others.

    Args:
        caller: such as "simulate".
        net: names the layers.
        states: their values.
        names: of those that are NaN.
        when: such as "from step 3 on".
        hint: what to look at.
    """
    name, *others = names
    path, _, own = name.rpartition(".")
    layer = name_of(dict(named_dynamics(net))[path], path)
    value = states[name]
    warn_user(
        f"{caller}: {own} of {layer} is NaN {when} in {int(value.isnan().sum())} of {value.numel()} places"
        f"{', and so is ' + ', '.join(others) if others else ''}; {hint}",
        NaNWarning,
    )
