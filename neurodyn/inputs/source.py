"""What random sources share: whole sequences from a generator, single steps from a seed."""

from __future__ import annotations

from typing import Any

import pint
import torch
from torch import Tensor

from .. import units
from ..core.dynamics import as_dt, get_default_dt
from ..core.precise import Precise
from ..core.signature import Called


class Source(Precise, metaclass=Called):
    """Base of the random sources.

    ``source(T, *batch, generator=None)`` draws a whole sequence ``(T, *batch, *size)`` from `generator`, or from
    torch's global one, as the functions of torch do. ``source.at(i, *batch)`` is the input of step i alone,
    ``(*batch, *size)``: it depends on `seed` and i only, whatever else was drawn. `simulate` takes the source itself
    as an input, and draws from its own `seed`.

    Draws are independent over time, batch and neurons. They are made in float32 or float64 and then have the dtype of
    the source: in float16 a probability of 0.002 would become 0.00225. So is the probability kept.

    Args:
        dt: time step, a quantity; `get_default_dt()` at construction if not given.
        seed: of `at`; drawn from torch's global generator if not given.
    """

    def __init__(self, *, dt: Any = None, seed: int | None = None):
        super().__init__()
        self.dt = as_dt(get_default_dt() if dt is None else dt, f"{type(self).__name__}: dt")
        self.seed = int(torch.randint(2**31, ())) if seed is None else seed

    def sample(self, *lead: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(*lead, *size)``."""
        raise NotImplementedError(f"{type(self).__name__} defines no sample()")

    def forward(self, T: int, *batch: int, generator: torch.Generator | None = None) -> Tensor:
        """A sequence of T steps, ``(T, *batch, *size)``."""
        return self.sample(T, *batch, generator=generator)

    def at(self, i: int, *batch: int) -> Tensor:
        """The input of step `i`, ``(*batch, *size)``."""
        device = next(self.buffers()).device
        return self.sample(*batch, generator=seeded(self.seed, i, device))

    def rows(self, first: int, steps: int, *batch: int, generator: torch.Generator) -> Tensor:
        """The inputs of `steps` steps from step `first` on, as a simulation asks for them."""
        device = next(self.buffers()).device
        if generator.device != device:
            generator = torch.Generator(device).manual_seed(generator.initial_seed())
        return self(steps, *batch, generator=generator)

    def extra_repr(self) -> str:
        """dt and seed."""
        return f"dt={self.dt:g} ms, seed={self.seed}"


def seeded(seed: int, i: int, device: torch.device) -> torch.Generator:
    """The generator of step `i`; for one seed, no two of the first 2**32 steps share one."""
    key = (seed * 0x9E3779B1 + i) & 0xFFFFFFFF  # generators take 32 bits; this mixes them one to one
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        key = ((key ^ key >> shift) * factor) & 0xFFFFFFFF
    return torch.Generator(device).manual_seed(key ^ key >> 16)


def probability(rate: Tensor, dt: float, label: str) -> Tensor:
    """The probability of a spike in a step, rate * dt, or an error if it is none."""
    p = rate * dt
    low, high = (float(bound) for bound in p.detach().aminmax()) if p.numel() else (0.0, 0.0)
    if not low >= 0:
        raise ValueError(f"{label} must not be negative, got {low / dt:g} / ms")
    if not high <= 1:
        raise ValueError(
            f"{label}: a rate of {high / dt:g} / ms gives {high:g} spikes in a step of dt={dt:g} ms, more than 1; "
            f"use a time step below {dt / high:g} ms, for example dt={dt / high / 10:.2g} * u.ms"
        )
    return p


def rate_of(value: Any, label: str) -> Tensor:
    """A rate in 1/ms from a quantity or a tensor."""
    if units.is_quantity(value):
        if value.dimensionality != units.Hz.dimensionality:
            raise pint.DimensionalityError(value.units, units.Hz, extra_msg=f": {label}, for example 20.0 * u.Hz")
        value = torch.as_tensor(units.to_canonical(value))
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{label} must be a quantity such as 20.0 * u.Hz, or a floating tensor in 1/ms, got {value!r}")
    return value
