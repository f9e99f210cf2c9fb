"""Logic on spikes as polynomials: exact for 0 and 1, and with a gradient for each input, so that training passes.

``not_`` is 1 - x, and for two spike trains of the same shape:

=========  ================  ===================
function   for 0 and 1       polynomial
=========  ================  ===================
``or_``    x or y            x + y - x y
``and_``   x and y           x y
``iand``   (not x) and y     (1 - x) y
``xor``    x not equal to y  x + y - 2 x y
``ixor``   the same as xor
=========  ================  ===================

Each is the probability of the result when x and y are probabilities of independent events. The inputs are floating
point; bool tensors have ``torch.logical_or`` and so on.
"""

from __future__ import annotations

from torch import Tensor


def or_(x: Tensor, y: Tensor) -> Tensor:
    """x or y."""
    return x + y - x * y


def and_(x: Tensor, y: Tensor) -> Tensor:
    """x and y."""
    return x * y


def iand(x: Tensor, y: Tensor) -> Tensor:
    """(not x) and y."""
    return (1 - x) * y


def xor(x: Tensor, y: Tensor) -> Tensor:
    """Either x or y, not both."""
    return x + y - 2 * x * y


ixor = xor


def not_(x: Tensor) -> Tensor:
    """Not x."""
    return 1 - x
