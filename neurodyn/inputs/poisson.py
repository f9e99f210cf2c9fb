"""Poisson spikes, and sums of many Poisson sources."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .. import units as u
from ..core.fields import as_size, check, show
from ..core.precise import precise
from .source import Source, probability, rate_of, seeded


def bernoulli(p: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """True with probability `p`, which is not of half precision; never for p = 0 and always for p = 1."""
    return torch.rand(shape, generator=generator, dtype=p.dtype, device=p.device) < p


class PoissonSpike(Source):
    r"""Neurons that spike independently at given rates: a spike in a step has the probability rate * dt.

    Output: spikes, 0 or 1; ``source(T, *batch, generator=None)`` is ``(T, *batch, *size)``, ``source.at(i, *batch)``
    one step, see `Source`. No gradient reaches the rates.

    Args:
        size: shape of the population.
        freqs: rate of each neuron, a quantity that broadcasts to `size`.
        dt, seed: see `Source`.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: a rate is negative, or above 1 / dt.

    Example:
        >>> source = nd.PoissonSpike(100, 20 * u.Hz, dt=0.1 * u.ms)
        >>> source(10_000, 4, generator=torch.Generator().manual_seed(1)).shape  # 1 s for a batch of 4
        torch.Size([10000, 4, 100])
    """

    _precise = ("p",)
    p: Tensor
    one: Tensor

    def __init__(
        self,
        size: int | tuple[int, ...],
        freqs: Any,
        *,
        dt: Any = None,
        seed: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(dt=dt, seed=seed)
        self.size = as_size(size, type(self).__name__)
        dtype = dtype or torch.get_default_dtype()
        rate = check(freqs, u.canonical_unit("Hz"), self.size, "PoissonSpike: freqs", device, precise(dtype)).detach()
        self.register_buffer("p", probability(rate, self.dt, "PoissonSpike: freqs"), persistent=False)
        self.register_buffer("one", torch.ones((), dtype=dtype, device=device), persistent=False)

    def sample(self, *lead: int, generator: torch.Generator | None = None) -> Tensor:
        return bernoulli(self.p, (*lead, *self.size), generator).to(self.one.dtype)

    def extra_repr(self) -> str:
        """Size, rate, dt and seed."""
        size = ", ".join(map(str, self.size))
        return f"{size}, freqs={show(self.p / self.dt, u.canonical_unit('Hz'))}, {super().extra_repr()}"


class PoissonEncoder(Source):
    r"""Encode rates as spikes: each entry spikes independently with the probability rate * dt.

    Input: rates, a quantity (``u.quantity(x, "Hz")`` for a tensor x) or a tensor in 1/ms, of any shape. Output:
    spikes, 0 or 1, of the same shape, or ``(T, *shape)`` where T is given: the rates then hold for T steps. No
    gradient reaches the rates.

    Args:
        dt, seed: see `Source`; `seed` serves `at`.

    Raises:
        ValueError: at a call, a rate is negative or above 1 / dt.

    Example:
        >>> encoder, pixels = nd.PoissonEncoder(dt=1 * u.ms), torch.rand(32, 64)
        >>> encoder(u.quantity(200 * pixels, "Hz"), T=50).shape
        torch.Size([50, 32, 64])
    """

    def forward(self, rates: Any, T: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:  # type: ignore[override]
        """Spikes of the shape of `rates`, or with T steps in front."""
        rate = rate_of(rates, "PoissonEncoder: rates")
        p = probability(rate.to(precise(rate.dtype)), self.dt, "PoissonEncoder: rates").detach()
        return bernoulli(p, (() if T is None else (T,)) + tuple(p.shape), generator).to(rate.dtype)

    def rows(self, *span: Any, **options: Any) -> Tensor:
        """There are none without rates."""
        raise TypeError(
            "PoissonEncoder encodes rates that it is called with; as an input that lasts use nd.PoissonSpike"
        )

    def at(self, i: int, rates: Any) -> Tensor:  # type: ignore[override]
        """The spikes of step `i`, of the shape of `rates`."""
        rate = rate_of(rates, "PoissonEncoder: rates")
        return self(rate, generator=seeded(self.seed, i, rate.device))


class PoissonInput(Source):
    r"""The input of each neuron from many Poisson sources of its own: weight times the number that spike in a step.

    The number is binomial: num_input sources, each with the probability p = freq * dt; or ``method="normal"``: normal
    with the same mean n p and standard deviation $\sqrt{n p (1 - p)}$, close for n p and n (1 - p) above 5, not whole
    and now and then negative. Call it as `PoissonSpike`. No gradient reaches freq or weight.

    Output: in the canonical unit of the weight (nS for a conductance, pA, mV), ``(T, *batch, *size)``.

    Args:
        size: shape of the population.
        num_input: number of sources for each neuron.
        freq: rate of each source, a quantity that broadcasts to `size`.
        weight: jump for one spike, plain or a quantity, that broadcasts to `size`.
        method: "binomial" or "normal".
        dt, seed: see `Source`.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: a rate is negative, or above 1 / dt; an unknown method.

    Example:
        >>> background = nd.PoissonInput(100, num_input=800, freq=5 * u.Hz, weight=0.1 * u.nS, dt=0.1 * u.ms)
        >>> background.at(0, 8).shape  # the jumps of step 0 for a batch of 8
        torch.Size([8, 100])
    """

    _precise = ("p",)
    p: Tensor
    weight: Tensor

    def __init__(
        self,
        size: int | tuple[int, ...],
        num_input: int,
        freq: Any,
        weight: Any,
        *,
        method: Literal["binomial", "normal"] = "binomial",
        dt: Any = None,
        seed: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(dt=dt, seed=seed)
        self.size, self.num_input, self.method = as_size(size, type(self).__name__), num_input, method
        if method not in ("binomial", "normal"):
            raise ValueError(f"PoissonInput: method must be 'binomial' or 'normal', got {method!r}")
        if not hasattr(num_input, "__index__") or num_input < 1:
            raise ValueError(f"PoissonInput: num_input must be a positive int, got {num_input!r}")
        dtype = dtype or torch.get_default_dtype()
        rate = check(freq, u.canonical_unit("Hz"), self.size, "PoissonInput: freq", device, precise(dtype)).detach()
        unit = u.canonical_unit(getattr(weight, "units", "dimensionless"))
        jump = check(weight, unit, self.size, "PoissonInput: weight", device, dtype).detach()
        self.register_buffer("p", probability(rate, self.dt, "PoissonInput: freq"), persistent=False)
        self.register_buffer("weight", jump, persistent=False)

    def sample(self, *lead: int, generator: torch.Generator | None = None) -> Tensor:
        p, n = self.p.expand(*lead, *self.size), self.num_input
        if self.method == "binomial":
            count = torch.binomial(torch.full_like(p, n), p.contiguous(), generator=generator)
        else:
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device)
            count = n * p + (n * p * (1 - p)).sqrt() * noise
        return (count * self.weight).to(self.weight.dtype)

    def extra_repr(self) -> str:
        """Size, number and rate of the sources, method, dt and seed."""
        size, rate = ", ".join(map(str, self.size)), show(self.p / self.dt, u.canonical_unit("Hz"))
        return f"{size}, num_input={self.num_input}, freq={rate}, method={self.method!r}, {super().extra_repr()}"
