"""Initialisers for weights with units: ``f(shape) -> quantity``, shapes as in torch, ``(out, in, *kernel)``."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch

from .. import units

_CUT = 0.87962566103423978  # standard deviation of a standard normal variable that is kept between -2 and 2


@dataclass(frozen=True)
class VarianceScaling:
    """Mean 0 and variance `scale` / fan, so that a layer keeps the variance of its inputs.

    Attributes:
        scale: 1 for linear units, 2 where half of them are silent.
        mode: the fan: "fan_in" inputs of a target, "fan_out" targets of an input, or their mean, "fan_avg".
        distribution: "normal", "uniform", or "truncated_normal", cut at two standard deviations before it is scaled.
        unit: unit of the weights.
        generator: for the random numbers.

    Example:
        >>> connection = nd.AllToAll(400, 100, weight=nd.init.VarianceScaling(2.0, "fan_avg", "uniform", unit=u.nS))
        >>> round(connection.weight.std().item() / (2 / 250) ** 0.5, 1)
        1.0
    """

    scale: float = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["truncated_normal", "normal", "uniform"] = "truncated_normal"
    _: KW_ONLY
    unit: Any = "dimensionless"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"{type(self).__name__}: scale must be positive, got {self.scale}")
        for name, known in (
            ("mode", ("fan_in", "fan_out", "fan_avg")),
            ("distribution", ("truncated_normal", "normal", "uniform")),
        ):
            if getattr(self, name) not in known:
                wanted = ", ".join(map(repr, known))
                raise ValueError(f"{type(self).__name__}: {name} must be one of {wanted}, got {getattr(self, name)!r}")

    def __call__(self, shape: tuple[int, ...]) -> units.Quantity:
        inside = math.prod(_kernel(self, shape)[2:])
        fans = {"fan_in": shape[1] * inside, "fan_out": shape[0] * inside}
        std = math.sqrt(self.scale / fans.get(self.mode, sum(fans.values()) / 2))
        values, source = torch.empty(shape), {"generator": self.generator}
        if self.distribution == "uniform":
            values.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std, **source)
        elif self.distribution == "normal":
            values.normal_(0, std, **source)
        else:
            wide = std / _CUT
            torch.nn.init.trunc_normal_(values, 0, wide, -2 * wide, 2 * wide, **source)
        return units.quantity(values, self.unit)


@dataclass(frozen=True)
class KaimingNormal(VarianceScaling):
    """Truncated normal, variance 2 / fan_in. He, Zhang, Ren and Sun (2015)."""

    scale: float = 2.0


@dataclass(frozen=True)
class KaimingUniform(VarianceScaling):
    """Uniform, variance 2 / fan_in. He, Zhang, Ren and Sun (2015)."""

    scale: float = 2.0
    distribution: Literal["truncated_normal", "normal", "uniform"] = "uniform"


@dataclass(frozen=True)
class XavierNormal(VarianceScaling):
    """Truncated normal, variance 2 / (fan_in + fan_out). Glorot and Bengio (2010)."""

    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_avg"


@dataclass(frozen=True)
class XavierUniform(VarianceScaling):
    """Uniform, variance 2 / (fan_in + fan_out). Glorot and Bengio (2010)."""

    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_avg"
    distribution: Literal["truncated_normal", "normal", "uniform"] = "uniform"


@dataclass(frozen=True)
class LecunNormal(VarianceScaling):
    """Truncated normal, variance 1 / fan_in. LeCun, Bottou, Orr and Mueller (1998)."""


@dataclass(frozen=True)
class LecunUniform(VarianceScaling):
    """Uniform, variance 1 / fan_in. LeCun, Bottou, Orr and Mueller (1998)."""

    distribution: Literal["truncated_normal", "normal", "uniform"] = "uniform"


@dataclass(frozen=True)
class Orthogonal:
    """`scale` times a random matrix with orthonormal rows or columns, whichever are fewer; kernels count as inputs.

    Source: Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, ICLR.

    Example:
        >>> W = nd.init.Orthogonal(2.0, unit=u.mV)((3, 5)).magnitude
        >>> torch.allclose(W @ W.T, 4 * torch.eye(3), atol=1e-5)
        True
    """

    scale: float = 1.0
    _: KW_ONLY
    unit: Any = "dimensionless"
    generator: torch.Generator | None = None

    def __call__(self, shape: tuple[int, ...]) -> units.Quantity:
        values = torch.empty(_kernel(self, shape))
        return units.quantity(torch.nn.init.orthogonal_(values, self.scale, generator=self.generator), self.unit)


@dataclass(frozen=True)
class DeltaOrthogonal:
    """Convolution whose kernel is zero but at its centre, where it is `Orthogonal`: a signal keeps its norm.

    Source: Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington (2018), Dynamical isometry and a mean field theory of
    CNNs, ICML.
    """

    scale: float = 1.0
    _: KW_ONLY
    unit: Any = "dimensionless"
    generator: torch.Generator | None = None

    def __call__(self, shape: tuple[int, ...]) -> units.Quantity:
        if len(shape) < 3 or shape[0] < shape[1]:
            raise ValueError(
                f"DeltaOrthogonal: wanted the shape (out, in, *kernel) of a convolution with at least as many outputs "
                f"as inputs, got {tuple(shape)}"
            )
        values = torch.zeros(shape)
        centre = (slice(None), slice(None), *((n - 1) // 2 for n in shape[2:]))
        values[centre] = Orthogonal(self.scale, generator=self.generator)(tuple(shape[:2])).magnitude
        return units.quantity(values, self.unit)


@dataclass(frozen=True)
class Identity:
    """`value`, a number or a quantity, on the diagonal of a matrix, and 0 elsewhere."""

    value: Any = 1.0

    def __call__(self, shape: tuple[int, ...]) -> units.Quantity:
        if len(shape) != 2:
            raise ValueError(f"Identity: wanted the shape (out, in) of a matrix, got {tuple(shape)}")
        unit = units.canonical_unit(getattr(self.value, "units", "dimensionless"))
        return units.quantity(float(units.to_canonical(self.value)) * torch.eye(*shape), unit)


def _kernel(initialiser: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 2:
        raise ValueError(
            f"{type(initialiser).__name__}: wanted the shape (out, in) or (out, in, *kernel) of weights, got "
            f"{tuple(shape)}; for one value each use nd.init.Normal"
        )
    return tuple(shape)
