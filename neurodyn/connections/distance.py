"""Connections that depend on how far apart two neurons are."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from . import csr
from .keywords import PlacedKeywords
from .random import check_self
from .sparse import Sparse, as_sizes


@dataclass(frozen=True)
class OfDistance:
    """A weight or a delay of `DistanceProb` that depends on the distance: ``f(distances) -> quantity``.

    As for initialisers, its random numbers are those of the connection's generator, and delays are rounded to steps.

    Example:
        >>> delay = nd.OfDistance(lambda d: (0.5 + d / 0.3) * u.ms)  # 0.3 m/s, for distances in mm
    """

    f: Callable[[Tensor], Any]


class DistanceProb(Sparse):
    """Each pair of neurons is connected with a probability that depends on their distance, at most once.

    The neurons of a population of shape ``(rows, columns)``, or of any number of dimensions, are the centres of the
    cells of a grid that fills `extent`; those of both populations fill the same space. Distances are in the
    unit of `extent`.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: shapes of the grids; any sizes, if `positions` are given.
        prob: ``f(distances) -> probabilities``, tensors of the same shape.
        weight: see `Sparse`, or `OfDistance`.
        delay: the same.
        extent: size of the space, one for all dimensions or one for each.
        periodic: whether the space is a torus, so that its edges meet.
        positions: of both populations, tensors ``(number, dimensions)``, in place of the grids.
        include_self, generator, values: see `FixedProb`.

    Raises:
        ValueError: grids of different dimensions, positions of a wrong shape, probabilities outside 0 to 1.

    Example:
        >>> near = nd.DistanceProb((20, 20), (20, 20), lambda d: torch.exp(-d / 0.1), weight=0.1 * u.nS, periodic=True)
        >>> float(near.distance.max()) <= 0.5**0.5
        True
    """

    def __init__(
        self,
        pre: int | tuple[int, ...],
        post: int | tuple[int, ...],
        prob: Callable[[Tensor], Tensor],
        *,
        weight: Any,
        delay: Any = None,
        extent: float | tuple[float, ...] = 1.0,
        periodic: bool = False,
        positions: tuple[Tensor, Tensor] | None = None,
        include_self: bool = True,
        generator: torch.Generator | None = None,
        **values: Unpack[PlacedKeywords],
    ):
        sizes, label = as_sizes((pre, post), type(self).__name__), f"{type(self).__name__}({pre}, {post})"
        check_self(include_self, pre, post, type(self).__name__)
        if positions is None and len(sizes[0]) != len(sizes[1]):
            raise ValueError(f"{label}: the grids have different dimensions; give positions=(pre, post)")
        dimensions = len(sizes[0]) if positions is None else positions[0].shape[-1]
        space = torch.as_tensor(extent, dtype=torch.float64, device="cpu")
        if space.dim() > 1 or (space.dim() and len(space) != dimensions) or not bool((space > 0).all()):
            raise ValueError(
                f"{label}: extent must be positive, one for all or one for each of {dimensions} dimensions"
            )
        space = space.expand(dimensions)
        if positions is None:
            places = tuple(_grid(size, space) for size in sizes)
        else:
            places = tuple(torch.as_tensor(place, dtype=torch.float64, device="cpu") for place in positions)
            for size, place in zip(sizes, places, strict=True):
                if tuple(place.shape) != (math.prod(size), dimensions):
                    raise ValueError(
                        f"{label}: positions have shape {tuple(place.shape)}, wanted {(math.prod(size), dimensions)}"
                    )
        try:
            found, distance = csr.by_distance(
                places[0], places[1], prob, space if periodic else None, include_self, generator
            )
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from None
        weight, delay = (
            functools.partial(_at, distance, x.f) if isinstance(x, OfDistance) else x for x in (weight, delay)
        )
        super().__init__(found, (pre, post), weight=weight, delay=delay, generator=generator, **values)
        self.places, self.period = places, space if periodic else None

    @property
    def distance(self) -> Tensor:
        """The distance of each synapse, in the order of weights and delays."""
        pre, post = (
            place[index.cpu()] for place, index in zip(self.places, (self.pre_index, self.post_index), strict=True)
        )
        return csr.distances(pre, post, self.period).to(self.weight)


def _at(distance: Tensor, f: Callable[[Tensor], Any], shape: tuple[int, ...]) -> Any:
    """The initialiser that gives what `f` gives for the distances."""
    return f(distance)


def _grid(size: tuple[int, ...], space: Tensor) -> Tensor:
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n * float(s) for n, s in zip(size, space, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
