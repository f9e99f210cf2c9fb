"""Initialisers for the parameters of a model: one value per neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pint
import torch
from torch import Tensor

from .. import units
from ..connections.base import drawing_from


def _in_common_unit(**values: Any) -> tuple[pint.Unit, list[float]]:
    """The canonical unit of the values, and their magnitudes in it."""
    (first, start), *rest = values.items()
    unit = units.canonical_unit(getattr(start, "units", "dimensionless"))
    for name, value in rest:
        got = getattr(value, "units", units.registry.dimensionless)
        if got.dimensionality != unit.dimensionality:
            raise pint.DimensionalityError(got, unit, extra_msg=f": {name} must have the dimension of {first}")
    return unit, [float(units.to_canonical(value)) for value in values.values()]


@dataclass(frozen=True)
class Constant:
    """The same value for each neuron, as a tensor of the full size."""

    value: Any

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, (value,) = _in_common_unit(value=self.value)
        return units.quantity(torch.full(size, value), unit)


@dataclass(frozen=True)
class Normal:
    """Normally distributed with `mean` and standard deviation `std`."""

    mean: Any
    std: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, (mean, std) = _in_common_unit(mean=self.mean, std=self.std)
        return units.quantity(mean + std * torch.randn(size, generator=self.generator), unit)


@dataclass(frozen=True)
class Uniform:
    """Uniformly distributed between `low` and `high`."""

    low: Any
    high: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, (low, high) = _in_common_unit(low=self.low, high=self.high)
        return units.quantity(low + (high - low) * torch.rand(size, generator=self.generator), unit)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normally distributed with `mean` and `std`, restricted to values between `low` and `high`."""

    mean: Any
    std: Any
    low: Any
    high: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, (mean, std, low, high) = _in_common_unit(mean=self.mean, std=self.std, low=self.low, high=self.high)
        values: Tensor = torch.nn.init.trunc_normal_(torch.empty(size), mean, std, low, high, generator=self.generator)
        return units.quantity(values, unit)


@dataclass(frozen=True)
class LogNormal:
    """Log-normally distributed: `mean` and `std` are those of the values, not of their logarithms.

    With a negative mean all values are negative, as weights of inhibitory synapses.

    Raises:
        ValueError: a mean of 0, or a negative `std`.

    Example:
        >>> connection = nd.FixedProb(400, 100, 0.5, weight=nd.init.LogNormal(0.5 * u.nS, 0.5 * u.nS))
        >>> float(connection.weight.min()) > 0, round(float(connection.weight.mean()), 1)
        (True, 0.5)
    """

    mean: Any
    std: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, mean, relative = _relative(self)
        sigma = math.sqrt(math.log1p(relative**2))
        drawn = torch.randn(size, generator=self.generator)
        return units.quantity(mean * torch.exp(sigma * drawn - sigma**2 / 2), unit)


@dataclass(frozen=True)
class Gamma:
    """Gamma-distributed with `mean` and standard deviation `std`: the shape is (mean / std)^2, the scale std^2 / mean.

    With a negative mean all values are negative.

    Raises:
        ValueError: a mean of 0, or a negative `std`.
    """

    mean: Any
    std: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, mean, relative = _relative(self)
        if not relative:
            return units.quantity(torch.full(size, mean), unit)
        shape = torch.tensor(relative**-2)
        with drawing_from(self.generator, "Gamma"):
            drawn = torch.distributions.Gamma(shape, shape).sample(size)
        return units.quantity(mean * drawn, unit)


@dataclass(frozen=True)
class Exponential:
    """Exponentially distributed with `mean`, which is the standard deviation too; all negative if the mean is."""

    mean: Any
    generator: torch.Generator | None = None

    def __call__(self, size: tuple[int, ...]) -> units.Quantity:
        unit, (mean,) = _in_common_unit(mean=self.mean)
        return units.quantity(mean * torch.empty(size).exponential_(generator=self.generator), unit)


def _relative(drawn: LogNormal | Gamma) -> tuple[pint.Unit, float, float]:
    """The unit, the mean in it, and the standard deviation relative to the mean."""
    unit, (mean, std) = _in_common_unit(mean=drawn.mean, std=drawn.std)
    name = type(drawn).__name__
    if mean == 0 or not math.isfinite(mean):
        raise ValueError(f"{name}: mean must be a number other than 0, got {drawn.mean}; nd.init.Normal takes any")
    if not 0 <= std < math.inf:
        raise ValueError(f"{name}: std must be zero or positive, got {drawn.std}")
    return unit, mean, std / abs(mean)
