"""Plasticity that depends on the calcium that spikes of both sides bring."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.fields import Param, State, fraction, nonnegative, param, positive, state
from ..core.solve import relax
from .base import Plasticity


class CalciumPlasticity(Plasticity):
    r"""The rule of Graupner and Brunel: a synapse with two stable strengths, between which calcium moves it.

    The calcium of a synapse is $c = C_{pre}\,x + C_{post}\,y$, where the traces x and y decay with $\tau_{Ca}$ and are
    increased by 1 at spikes. The efficacy $\rho = w / w_{max}$ follows

    $\tau\,\dot\rho = -\rho\,(1 - \rho)(\rho_* - \rho) + \gamma_p (1 - \rho)\,\Theta(c - \theta_p)
    - \gamma_d\, \rho\,\Theta(c - \theta_d)
    + \sigma \sqrt{\tau\,[\Theta(c - \theta_p) + \Theta(c - \theta_d)]}\;\eta(t)$,

    the last term, white noise, with ``learn(post, noise=xi)``: standard normal numbers ``(*batch, *synapses)``, new
    ones in each step, as ``torch.randn(rule.synapses)``. Without them there is none. Weights stay within their bounds.

    The times of a step in which c lies above the thresholds are exact; for $\rho$ a step is one of Euler's, whose error
    is of the order of $dt\,\gamma/\tau$. Presynaptic calcium comes D = 13.7 ms after the spike in the paper: delay the
    spikes of the other side, or these, with `nd.Delay`.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        C_pre, C_post: calcium by a spike (1 and 2).
        theta_d, theta_p: thresholds of depression and potentiation (1 and 1.3).
        gamma_d, gamma_p: rates of these (200 and 321.808).
        rho_star: the unstable state (0.5).
        tau_Ca: time constant of calcium (20 ms).
        tau: time constant of the efficacy (150 s).
        sigma: strength of the noise, where there is any (2.8284).

    Example:
        >>> rule = nd.CalciumPlasticity(nd.OneToOne(2, weight=[0.5, 0.5]), w_max=1.0)
        >>> for step in range(1000):  # inputs alone depress, inputs and outputs together potentiate
        ...     pre = torch.full((2,), float(step % 50 == 0))
        ...     _ = rule(pre, pre * torch.tensor([0.0, 1.0]))
        >>> bool(rule.weight[0] < 0.5), bool(rule.weight[1] > 0.5)
        (True, True)

    Source: Graupner and Brunel (2012), Calcium-based plasticity model explains sensitivity of synaptic changes to spike
    pattern, rate, and dendritic location, PNAS 109.
    """

    needs_bound = True
    C_pre: Param = param(1.0, domain=nonnegative)
    C_post: Param = param(2.0, domain=nonnegative)
    theta_d: Param = param(1.0, domain=positive)
    theta_p: Param = param(1.3, domain=positive)
    gamma_d: Param = param(200.0, domain=nonnegative)
    gamma_p: Param = param(321.808, domain=nonnegative)
    rho_star: Param = param(0.5, domain=fraction)
    tau_Ca: Param = param(20 * u.ms, domain=positive)
    tau: Param = param(150_000 * u.ms, domain=positive)
    sigma: Param = param(2.8284, domain=nonnegative)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    y: State = state(default=0.0, alias="y_initializer", shape="size")

    def change(  # type: ignore[override]
        self, pre: Tensor, post: Tensor, weight: Tensor, x: Tensor, y: Tensor, *, noise: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        x, y = x + pre, y + post
        calcium = self.C_pre * self.layout.of_pre(x) + self.C_post * self.layout.of_post(y)
        rho = weight / self.w_max
        above_p, above_d = self._above(calcium, self.theta_p), self._above(calcium, self.theta_d)
        up = self.gamma_p * (1 - rho) * self.mean(above_p)
        down = self.gamma_d * rho * self.mean(above_d)
        drift = self.dt * rho * (1 - rho) * (self.rho_star - rho)
        change = (up - down - drift) / self.tau
        if noise is not None:
            if tuple(noise.shape) != tuple(calcium.shape):
                shape, wanted = tuple(noise.shape), tuple(calcium.shape)
                raise ValueError(f"{self._label()}: noise has shape {shape}, wanted {wanted}, one for each synapse")
            change = change + self.mean(self.sigma * ((above_p + above_d) / self.tau).sqrt() * noise)
        weight = self.bounded(weight + self.layout.real(self.w_max * change))
        return weight, relax(x, 0.0, self.tau_Ca, self.dt), relax(y, 0.0, self.tau_Ca, self.dt)

    def _above(self, calcium: Tensor, threshold: Tensor) -> Tensor:
        """The part of the coming step, in ms, in which decaying calcium lies above a threshold."""
        return (self.tau_Ca * (calcium.maximum(threshold) / threshold).log()).clamp(max=self.dt)
