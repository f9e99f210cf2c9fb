"""Initialisers for the parameters of a model: one value per neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pint
import torch
from torch import Tensor

from .. import units


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
