"""Noise with a memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import relax


class OU(Dynamics):
    r"""A noisy current with memory: $\tau\,dI = (\mu - I)\,dt + \sigma \sqrt{2\tau}\,dW$.

    This is the Ornstein-Uhlenbeck process.
    In the long run it is normal with mean mu and standard deviation sigma, and its autocorrelation is
    $e^{-|t|/\tau}$. The step is exact in distribution for every dt:
    $I \gets \mu + (I - \mu)\,e^{-dt/\tau} + \sigma \sqrt{1 - e^{-2 dt/\tau}}\,\xi$. I starts at mu.

    Input: standard normal numbers xi, ``(*batch, *size)``, independent for each step, as torch.randn draws them. They
    are an input since a step is a pure function. Output: I in pA, same shape; add it to what else a neuron gets.

    Example:
        >>> noise = nd.OU(1000, mean=2 * u.pA, sigma=0.5 * u.pA, dt=0.1 * u.ms)
        >>> I = nd.unroll(noise, torch.randn(500, 1000), compile=False)[-1]
        >>> bool(1.9 < I.mean() < 2.1), bool(0.45 < I.std() < 0.55)
        (True, True)
        >>> net = torch.nn.Sequential(nd.OU(100), nd.LIF(100))
        >>> recording = nd.simulate(net, 50 * u.ms, lambda i, n, random: torch.randn(n, 100, generator=random))

    Source: Uhlenbeck and Ornstein (1930), On the theory of the Brownian motion, Physical Review 36; the step: Gillespie
    (1996), Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral, Physical Review E 54.
    """

    mean: Param = param(0 * u.pA, doc="mu, the mean in the long run")
    sigma: Param = param(1 * u.pA, doc="standard deviation in the long run", domain=nonnegative)
    tau: Param = param(5 * u.ms, doc="correlation time", domain=positive)

    I: State = state("mean")

    def step(self, xi: Tensor, I: Tensor) -> tuple[Tensor, Tensor]:
        I = relax(I, self.mean, self.tau, self.dt)
        I = I + self.sigma * torch.sqrt(-torch.expm1(-2 * self.dt / self.tau)) * xi
        return I, I
