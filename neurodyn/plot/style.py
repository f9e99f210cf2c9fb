"""Axes and colours."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import units as u
from ..tools.extras import needed

#: Okabe and Ito's colours for lines, in the order of use; black is for spikes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LEGEND: dict[str, Any] = {"edgecolor": "none", "framealpha": 0.85}


def axes(ax: Any) -> Any:
    """`ax`, or new axes in a figure of their own."""
    if ax is not None:
        return ax
    return needed("matplotlib.pyplot", "plot", "neurodyn.plot").subplots(layout="constrained")[1]


def array(values: Any) -> Any:
    """A tensor, or the magnitude of a quantity, as an array."""
    values = values.magnitude if u.is_quantity(values) else values
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def label(name: str, unit: Any) -> str:
    """The label of an axis: ``V (mV)``."""
    return name if unit.dimensionless else f"{name} ({unit:~P})".strip()
