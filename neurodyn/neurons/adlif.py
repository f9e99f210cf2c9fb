"""Leaky integrate-and-fire with subthreshold adaptation."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.precise import precise
from ..core.solve import with_slope
from .base import Leaky


class AdLIF(Leaky):
    r"""Leaky integrate-and-fire neuron with an adaptation that follows its potential, and so resonates.

    $\tau\,\dot V = V_{rest} - V + R\,I - w$ and $\tau_w\,\dot w = a\,(V - V_{rest}) - w$; then ``delta`` is added;
    where $V \ge V_{th}$ the neuron spikes, V is reset and w grows by b, both in the same step.

    The two equations are solved together by their exact propagator over dt, which is stable for every a, tau and dt;
    explicit and symplectic Euler are not. A current that is affine in V is a part of the system, and solved exactly as
    well; another one (`MgBlock`) is taken with its slope at V. V oscillates where
    $a > \tau \tau_w (1/\tau - 1/\tau_w)^2 / 4$. a is not negative: below -1 V would run away.

    R is 1/(1 - exp(-dt/tau)) Gohm if it is not given: an input of 1 pA for one step moves V by 1 mV, up to order dt^2.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V and w in mV.

    Source: Bittar and Garner (2022), A surrogate gradient spiking baseline for speech command recognition, Frontiers
    in Neuroscience 16; Baronig, Ferrand, Sabathiel and Legenstein (2025), Advancing spatio-temporal processing through
    adaptation in spiking neural networks, Nature Communications 16. Theirs is the equation; the propagator is exact
    here.

    Example:
        >>> neuron = nd.AdLIF(2, R=1 * u.Gohm, a=torch.tensor([0.0, 3.0]))
        >>> I = torch.tensor([3.0, 3.0])
        >>> sum(neuron(I) for _ in range(100))
        tensor([5., 2.])
    """

    tau_w: Param = param(100 * u.ms, doc="time constant of the adaptation w", domain=positive)
    a: Param = param(1.0, doc="coupling of w to V", domain=nonnegative)
    b: Param = param(1 * u.mV, doc="rise of w at a spike")
    V_th: Param = param(1 * u.mV, doc="threshold")
    V_reset: Param = param(0 * u.mV, doc="potential after a reset")
    V_rest: Param = param(0 * u.mV, doc="resting potential")

    V: State = state(default=0 * u.mV, alias="V_initializer")
    w: State = state(default=0 * u.mV, alias="w_initializer")

    def step(
        self, I: Tensor | Current, V: Tensor, w: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype, wide = V.dtype, precise(V.dtype)
        V, w = self.propagate(I, V.to(wide), w.to(wide))
        V, w = V.to(dtype), w.to(dtype)
        if delta is not None:
            V = V + delta
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset), w + self.b * spike

    def propagate(self, I: Tensor | Current, V: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        r"""V and w after dt: $x + (e^{M dt} - 1)(x - x_\infty)$ with the matrix M and the fixed point x_inf of both."""
        R, a, tau, tau_w = (value.to(V.dtype) for value in (self.R, self.a, self.tau, self.tau_w))
        if isinstance(I, Current):
            drive, slope = with_slope(lambda v: I(v) * R, V)
            leak = 1 + (-slope).clamp(min=0)  # a slope upwards, which could run away, is left out of the matrix
        else:
            drive, leak = R * I, torch.ones_like(R)
        pull_V, pull_w = self.V_rest - V - w + drive, a * (V - self.V_rest) - w  # tau dV/dt and tau_w dw/dt
        # x - x_inf is M^-1 dx/dt
        off_V, off_w = (pull_w - pull_V) / (leak + a), -(a * pull_V + leak * pull_w) / (leak + a)
        p, q = self.dt / tau, self.dt / tau_w
        mean, half = -(leak * p + q) / 2, (q - leak * p) / 2
        same, other = exponential_pair(mean, half * half - a * p * q, (leak + a) * p * q)
        new_V = V + same * off_V + other * (half * off_V - p * off_w)
        new_w = w + same * off_w + other * (a * q * off_V - half * off_w)
        return new_V, new_w


def exponential_pair(mean: Tensor, square: Tensor, det: Tensor) -> tuple[Tensor, Tensor]:
    r"""The numbers A and B of $e^M - 1 = A + B (M - mean)$, for real 2 x 2 matrices M that decay.

    With r = `square`\ ^(1/2), which may be imaginary, A = e^mean cosh r - 1 and B = e^mean sinh(r) / r. Values and
    gradients are accurate also near r = 0 and for slow decay.

    Args:
        mean: half the trace, negative.
        square: mean^2 - det, the square of half the distance between the eigenvalues.
        det: the determinant, positive.
    """
    near, real = square.abs() < 1, square >= 1
    s = torch.where(near, square, 0.0)
    cosh, sinh = torch.zeros_like(s), torch.ones_like(s)  # cosh r - 1 and sinh(r) / r, as series in r^2
    for k in range(10, 0, -1):
        cosh, sinh = (1 + cosh) * s / (2 * k * (2 * k - 1)), 1 + sinh * s / (2 * k * (2 * k + 1))
    decay, decayed = torch.exp(mean), torch.expm1(mean)
    r = torch.where(real, square, 1.0).sqrt()
    fast = mean - r
    slow = det / fast  # mean + r, without the cancellation
    angle = torch.where(near | real, 1.0, -square).sqrt()
    same = torch.where(real, (torch.expm1(slow) + torch.expm1(fast)) / 2, decayed * (1 + cosh) + cosh)
    same = torch.where(near | real, same, decayed * torch.cos(angle) - 2 * torch.sin(angle / 2) ** 2)
    other = torch.where(real, (torch.exp(slow) - torch.exp(fast)) / (2 * r), decay * sinh)
    return same, torch.where(near | real, other, decay * torch.sin(angle) / angle)
