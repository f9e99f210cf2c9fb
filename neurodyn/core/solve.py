"""Exponential Euler: one step of a differential equation that is exact where the equation is affine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..torch_private import isolated_graph, without_saved_tensor_hooks
from .precise import precise

_SERIES_BELOW = 0.1


def phi(z: Tensor) -> Tensor:
    r"""$\varphi(z) = (e^z - 1) / z$, with $\varphi(0) = 1$; value and gradient are accurate everywhere.

    Below $|z| = 0.1$ it is the Taylor series $\sum_k z^k / (k + 1)!$, whose first neglected term is under 1e-17 in
    float64 and 1e-9 in float32, which needs half as many terms.
    """
    near = z.abs() < _SERIES_BELOW
    small = torch.where(near, z, 0.0)
    large = torch.where(near, 1.0, z)
    series = torch.ones_like(z)
    for k in range(11 if z.dtype == torch.float64 else 6, 1, -1):
        series = 1 + small * (1 / k) * series
    return torch.where(near, series, torch.expm1(large) / large)


def phi_slope(z: Tensor) -> Tensor:
    r"""$\varphi'(z) = (e^z - \varphi(z)) / z = \int_0^1 s\,e^{z s}\,ds$; accurate for every z, as `phi`.

    Below $|z| = 0.1$ it is the series $\sum_k z^k / (k!\,(k + 2))$.
    """
    near = z.abs() < _SERIES_BELOW
    small = torch.where(near, z, 0.0)
    large = torch.where(near, 1.0, z)
    last = 10 if z.dtype == torch.float64 else 5
    series = torch.full_like(z, 1 / (last + 2))
    for k in range(last - 1, -1, -1):
        series = 1 / (k + 2) + small * (1 / (k + 1)) * series
    return torch.where(near, series, (torch.exp(large) - torch.expm1(large) / large) / large)


def relax(x: Tensor, x_inf: Tensor | float, tau: Tensor, dt: float) -> Tensor:
    r"""One step of $\tau\,\dot x = x_\infty - x$, exact: $x\,e^{-dt/\tau} + x_\infty\,(1 - e^{-dt/\tau})$.

    The result is rounded in each step, which limits what a slow state can resolve. In float32 it comes to rest within
    6e-8 tau / dt of x_inf, relative. One that decays to 0 has a tau of its own at each x, and the time in which it
    falls to 1/e is wrong by at most 0.12 % for tau = 1e6 dt, 2 % for 3e6 dt and 15 % for 1e7 dt; it stands still above
    3e7 dt. A layer built with a tau above 1.9e6 dt warns of it, see `neurodyn.core.rounding`. For
    slower ones use float64. In bfloat16 all of this begins at a tau 65,536 times as short, in float16 8,192 times.
    """
    return _relaxed(x, x_inf, -dt / tau)


def gate(x: Tensor, opening: Tensor, closing: Tensor, dt: float) -> Tensor:
    r"""One step of $\dot x = \alpha (1 - x) - \beta x$, exact for constant rates: `opening` and `closing` in 1/ms.

    As `relax` to alpha / (alpha + beta), but safe in value and gradient for rates so fast that the time constant
    1 / (alpha + beta) is 0 in floating point.
    """
    rate = opening + closing
    return _relaxed(x, opening / rate, -dt * rate)


def _relaxed(x: Tensor, x_inf: Tensor | float, z: Tensor) -> Tensor:
    r"""$x\,e^z + x_\infty (1 - e^z)$ for z < 0.

    The factor e^z rounds in the same way in each step, so that x * e^z would decay with another time constant: for
    tau = 1e6 dt in float32 98.6 % of it. So x keeps a factor of 1 or 0, which has no rounding, and the rest is
    multiplied by what e^z differs from it.
    """
    change = torch.expm1(z)
    slow = change > -0.5
    rest = torch.where(slow, change, torch.exp(z)) * x
    if not (isinstance(x_inf, (int, float)) and x_inf == 0):
        rest = rest - change * x_inf
    return slow.to(x.dtype) * x + rest


def whole_steps(duration: Tensor, dt: float) -> Tensor:
    """The number of steps in `duration`: its quotient by dt if whole up to rounding, else the next whole number.

    Up to the rounding of float32, also in float64: the module may have been built in float32.
    """
    quotient = duration / dt
    whole = quotient.round()
    rounding = 4 * max(torch.finfo(dtype).eps for dtype in (quotient.dtype, torch.float32)) * quotient
    return torch.where((quotient - whole).abs() <= rounding, whole, quotient.ceil())


def exp_euler(
    f: Callable[..., Tensor],
    x: Tensor,
    *args: Tensor,
    dt: float,
    diffusion: Callable[[Tensor], Tensor] | None = None,
    noise: Tensor | None = None,
    limit: float | None = None,
) -> Tensor:
    r"""One exponential-Euler step of $\dot x = f(x, \ldots)$: $x + dt\,\varphi(dt\,\lambda)\,f(x)$.

    $\lambda = \partial f/\partial x$; `f` acts elementwise on `x`, so that this slope is one derivative along a vector
    of ones, and it stays in the graph. Exact for `f` affine in `x`; otherwise of second order for one equation with a
    constant input, and of first order for systems.

    With `diffusion` it is a step of the Ito equation $dx = f\,dt + b(x)\,dW$:
    $b(x)\,\sqrt{dt\,\varphi(2\,dt\,\lambda)}\,\xi$ is added, whose variance is that of the integral
    $\int_0^{dt} e^{\lambda (dt - s)} b\,dW_s$. Exact in distribution for `f` affine in `x` and a constant b, which
    makes x an Ornstein-Uhlenbeck process; otherwise of weak order 1.

    Args:
        f: the drift, ``f(x, *args)``.
        x: the state.
        args: further arguments of `f`.
        dt: time step in ms.
        diffusion: b(x), in units of x per square root of ms.
        noise: the standard normal numbers xi, of the shape of `x`; drawn here if not given. Inside a `Dynamics.step`
            pass them in as an input, since a compiled step draws no numbers.
        limit: for an equation that runs away to infinity, a bound on $dt\,\lambda$ from above, which keeps the step
            and its gradient finite.

    Source: Hochbruck and Ostermann (2010), Exponential integrators, Acta Numerica 19; for the noise Gillespie (1996),
    Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral, Physical Review E 54.
    """
    if noise is not None and diffusion is None:
        raise TypeError("exp_euler: noise without diffusion has no effect; pass diffusion=lambda x: ...")
    dtype, x = x.dtype, x.to(precise(x.dtype))  # of half precision, so that what runs away stays finite inside
    rate, slope = with_slope(lambda y: f(y, *args), x)
    z = dt * slope if limit is None else (dt * slope).clamp(max=limit)
    new = x + dt * phi(z) * rate
    if diffusion is not None:
        new = new + (dt * phi(2 * z)).sqrt() * _diffused(x, diffusion, noise)
    if dtype != new.dtype:
        largest = torch.finfo(dtype).max / 2  # which leaves room for a difference to a threshold
        new = new.clamp(-largest, largest)
    return new.to(dtype)


def _diffused(x: Tensor, diffusion: Callable[[Tensor], Tensor], noise: Tensor | None) -> Tensor:
    r"""The random part of a step by its scale in time, $b(x)\,\xi$."""
    if noise is None:
        noise = torch.randn_like(x)
    if noise.shape != x.shape:
        raise ValueError(f"exp_euler: noise has shape {tuple(noise.shape)}, wanted that of x, {tuple(x.shape)}")
    return diffusion(x) * noise


def with_slope(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and its slope for each element."""

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        rate, pull, *_ = torch.func.vjp(f, x)
        return rate, pull(torch.ones_like(rate))[0]

    if torch.compiler.is_dynamo_compiling():
        return both(x)
    if torch.compiler.is_exporting():  # torch.export sees no transforms, so it gets the operations that they make
        return isolated_graph(both, (x,))([x])
    with without_saved_tensor_hooks(), torch.inference_mode(False):  # in inference mode torch 2.11 gives a slope of 0
        return both(x)
