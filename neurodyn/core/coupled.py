"""Two equations that are coupled, such as the potentials of two compartments, in one exponential-Euler step."""

from __future__ import annotations

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
