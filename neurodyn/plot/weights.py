"""Weights of a connection."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from .. import units as u
from ..connections import Sparse
from ..connections.base import Connection
from .style import array, axes, label


def weight_matrix(weights: nn.Module | Tensor | u.Quantity, *, ax: Any = None, **style: Any) -> Any:
    """The matrix of a connection: source neurons across, target neurons upwards, a colour bar with the unit.

    Orange and violet are positive and negative; where all have one sign, the colour runs from 0.

    Args:
        weights: an ``nn.Linear``, a connection of neurodyn, or a matrix ``(out, in)`` as torch stores it.
        ax: axes to draw on.
        style: keywords of ``Axes.imshow``.
    """
    matrix, unit = _matrix(weights)
    ax = axes(ax)
    low, high = float(matrix.min()), float(matrix.max())
    if low < 0 < high:
        bound = max(-low, high)
        scale = {"cmap": "PuOr_r", "vmin": -bound, "vmax": bound}
    else:
        scale = {"cmap": "cividis" if high > 0 else "cividis_r", "vmin": min(low, 0.0), "vmax": max(high, 0.0)}
    image = ax.imshow(matrix, **({"origin": "lower", "aspect": "auto", "interpolation": "nearest"} | scale | style))
    ax.set(xlabel="source neuron", ylabel="target neuron")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, label=label("weight", unit))
    return ax


def _matrix(weights: Any) -> tuple[Any, Any]:
    unit = getattr(weights, "unit", getattr(weights, "units", u.registry.dimensionless))
    if isinstance(weights, Sparse):
        shape = math.prod(weights.out_size), math.prod(weights.in_size)
        place = weights.post_index * shape[1] + weights.pre_index
        values = weights.weight.detach().expand(len(place))
        weights = values.new_zeros(math.prod(shape)).index_add(0, place, values).view(shape)
    elif isinstance(weights, Connection):
        weights = weights.matrix()
    elif isinstance(weights, nn.Linear):
        weights = weights.weight
    elif isinstance(weights, nn.Module):
        raise TypeError(f"weight_matrix: {type(weights).__name__} has no matrix that is known; pass it as (out, in)")
    matrix = array(weights)
    if getattr(matrix, "ndim", 0) != 2:
        raise ValueError(f"weight_matrix: wanted a matrix (out, in), got shape {tuple(getattr(matrix, 'shape', ()))}")
    return matrix, unit
