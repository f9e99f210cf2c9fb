"""Equations that are coupled, such as the potentials of compartments, in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .solve import phi, phi_slope


def coupled_exp_euler(
    x: tuple[Tensor, Tensor],
    rate: tuple[Tensor, Tensor],
    slope: tuple[Tensor, Tensor],
    coupling: tuple[Tensor, Tensor],
    dt: float,
    limit: float,
) -> tuple[Tensor, Tensor]:
    r"""$x + dt\,\varphi(dt\,J)\,f$ with the 2 x 2 Jacobian J: exact where f is affine, stable for every coupling.

    With the eigenvalues $\lambda_\pm$ of J, $\varphi(dt\,J) = \varphi(dt\,\lambda_-) + d\,(J - \lambda_-)$, where d is
    the divided difference of $\varphi(dt\,\lambda)$ between them.

    Args:
        x: the two states.
        rate: f, all of it.
        slope: the diagonal of J.
        coupling: its other elements, the slope of the first by the second and of the second by the first; zero or
            positive, so that the eigenvalues are real.
        dt: time step in ms.
        limit: a bound on $dt\,\lambda$ from above, for what runs away.
    """
    (a, d), (b, c), (f, g) = slope, coupling, rate
    half, mean = (a - d) / 2, (a + d) / 2
    # The square root has no slope at 0, where nothing couples and both equations are the same; then it does not matter.
    root = (half * half + b * c).clamp(min=torch.finfo(a.dtype).tiny).sqrt()
    low, high = (dt * (mean - root)).clamp(max=limit), (dt * (mean + root)).clamp(max=limit)
    of_low, gap = phi(low), high - low
    near = gap < 1e-3  # the divided difference as a slope in the middle, right up to gap^2 / 24
    middle = phi_slope(torch.where(near, (low + high) / 2, 0.0))
    ratio = dt * torch.where(near, middle, (phi(high) - of_low) / torch.where(near, 1.0, gap))
    over = root + half  # a - lambda_-, and that of d is root - half
    first = of_low * f + ratio * (over * f + b * g)
    second = of_low * g + ratio * (c * f + (root - half) * g)
    return x[0] + dt * first, x[1] + dt * second


#: The place of the double pole, for which the step below is of second order and forgets what is infinitely fast.
GAMMA = 1 - math.sqrt(0.5)


def implicit_row(
    x: Sequence[Tensor],
    rate: Sequence[Tensor],
    slope: Sequence[Tensor],
    coupling: Sequence[tuple[Tensor, Tensor]],
    dt: float,
) -> list[Tensor]:
    r"""One step of $\dot x_i = f_i(x_i) + b_i (x_{i+1} - x_i) + c_i (x_{i-1} - x_i)$, equations in a row.

    $x + dt\,A^{-1} (\gamma f + (1 - \gamma) A^{-1} f)$ with $A = 1 - \gamma\,dt\,J$ and $\gamma = 1 - \sqrt{1/2}$. It
    asks for f once. For one mode of the linear system the step is the factor $(1 + (1 - 2\gamma) z)/(1 - \gamma z)^2$
    in place of $e^z$: of second order, with half of the error of the trapezoidal rule, and 0 for $z = -\infty$ (which
    is -1 by that rule, a ringing that does not end). A slope above 1 / dt counts as 1 / dt, so that A has an inverse.

    The two systems are solved by one elimination from the last to the first (Hines 1984). It subtracts nothing: its
    pivots are sums of positive numbers, so that strong couplings do not round away what is weak.

    Args:
        x: the states.
        rate: f of each, without the couplings.
        slope: the slope of each f by its own x.
        coupling: of each pair of neighbours b of the first and c of the second, zero or positive.
        dt: time step in ms.

    Source: Hairer and Wanner (1996), Solving ordinary differential equations II, IV.6, the restricted Pade
    approximations of Norsett; Hines (1984), Efficient computation of branched nerve equations, International Journal
    of Bio-Medical Computing 15.
    """
    h, last = GAMMA * dt, len(x) - 1
    rate = list(rate)
    for i, (b, c) in enumerate(coupling):
        difference = x[i + 1] - x[i]
        rate[i], rate[i + 1] = rate[i] + b * difference, rate[i + 1] - c * difference
    pivot = [1 - h * a.clamp(max=1 / dt) for a in slope]
    up: list[Tensor] = []
    for i in range(last, 0, -1):
        b, c = coupling[i - 1]
        own, pivot[i] = pivot[i], pivot[i] + h * c
        up.insert(0, h * b / pivot[i])
        pivot[i - 1] = pivot[i - 1] + up[0] * own

    def solved(y: Sequence[Tensor]) -> list[Tensor]:
        y = list(y)
        for i in range(last, 0, -1):
            y[i - 1] = y[i - 1] + up[i - 1] * y[i]
        y[0] = y[0] / pivot[0]
        for i in range(1, last + 1):
            y[i] = (y[i] + h * coupling[i - 1][1] * y[i - 1]) / pivot[i]
        return y

    change = solved([GAMMA * f + (1 - GAMMA) * y for f, y in zip(rate, solved(rate), strict=True)])
    return [start + dt * y for start, y in zip(x, change, strict=True)]
