"""Exponential Euler: one step of a differential equation that is exact where the equation is affine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .torch_private import isolated_graph, without_saved_tensor_hooks

_SERIES_BELOW = 0.1


def phi(z: Tensor) -> Tensor:
    r"""$\varphi(z) = (e^z - 1) / z$, with $\varphi(0) = 1$; value and gradient are accurate everywhere.

    Below $|z| = 0.1$ it is the Taylor series $\sum_k z^k / (k + 1)!$, whose first neglected term is under 1e-17.
    """
    near = z.abs() < _SERIES_BELOW
    small = torch.where(near, z, 0.0)
    large = torch.where(near, 1.0, z)
    series = torch.ones_like(z)
    for k in range(11, 1, -1):
        series = 1 + small * (1 / k) * series
    return torch.where(near, series, torch.expm1(large) / large)


def relax(x: Tensor, x_inf: Tensor | float, tau: Tensor, dt: float) -> Tensor:
    r"""One step of $\tau\,\dot x = x_\infty - x$, exact: $x\,e^{-dt/\tau} + x_\infty\,(1 - e^{-dt/\tau})$."""
    gain = -torch.expm1(-dt / tau)
    return x * (1 - gain) + x_inf * gain


def whole_steps(duration: Tensor, dt: float) -> Tensor:
    """The number of steps in `duration`: its quotient by dt if whole up to rounding, else the next whole number."""
    quotient = duration / dt
    whole = quotient.round()
    rounding = 4 * torch.finfo(quotient.dtype).eps * quotient
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

    With `diffusion` it is a step of the Ito equation $dx = f\,dt + b(x)\,dW$: $b(x)\,\sqrt{dt}\,\xi$ is added.

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

    Source: Hochbruck and Ostermann (2010), Exponential integrators, Acta Numerica 19.
    """
    if noise is not None and diffusion is None:
        raise TypeError("exp_euler: noise without diffusion has no effect; pass diffusion=lambda x: ...")
    rate, slope = _with_slope(lambda y: f(y, *args), x)
    z = dt * slope
    new = x + dt * phi(z if limit is None else z.clamp(max=limit)) * rate
    return new if diffusion is None else new + _diffused(x, diffusion, noise, dt)


def _diffused(x: Tensor, diffusion: Callable[[Tensor], Tensor], noise: Tensor | None, dt: float) -> Tensor:
    r"""The random part of a step, $b(x)\,\sqrt{dt}\,\xi$."""
    if noise is None:
        noise = torch.randn_like(x)
    if noise.shape != x.shape:
        raise ValueError(f"exp_euler: noise has shape {tuple(noise.shape)}, wanted that of x, {tuple(x.shape)}")
    return diffusion(x) * dt**0.5 * noise


def _with_slope(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
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
