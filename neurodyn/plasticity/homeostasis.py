"""Homeostasis: synapses and thresholds that bring the rate of each neuron to a target."""

from __future__ import annotations

from torch import Tensor

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Plasticity
from .synapses import mean_over_batch


class SynapticScaling(Plasticity):
    r"""Synaptic scaling: all synapses onto a neuron grow or shrink by the same factor until it fires at the target.

    $\tau_r\,\dot r = s - r$ measures the rate of each output, with its spikes s; $\dot w = w\,(\rho - r)/(\rho\,\tau)$.
    The measured rate is shared by the batch, as the mean, and lasts, where the weights do. All weights change at all
    times, so that each step computes all synapses.

    Args:
        connection, w_max, weights, values: see `Plasticity`.
        rate: the target, $\rho$ (5 Hz).
        tau: time constant of the weights of a silent neuron (100 s).
        tau_r: time constant of the measured rate (10 s).

    Example:
        >>> rule = nd.SynapticScaling(nd.OneToOne(1, weight=[0.5]), tau=1 * u.s)
        >>> for _ in range(100):  # silent
        ...     _ = rule(torch.zeros(1), torch.zeros(1))
        >>> round(rule.weight.item(), 4)  # 0.5 exp(0.1 s / 1 s)
        0.5526

    Source: Turrigiano, Leslie, Desai, Rutherford and Nelson (1998), Activity-dependent scaling of quantal amplitude in
    neocortical neurons, Nature 391; van Rossum, Bi and Turrigiano (2000), J Neurosci 20.
    """

    rate: Param = param(5 * u.Hz, domain=positive)
    tau: Param = param(100_000 * u.ms, domain=positive)
    tau_r: Param = param(10_000 * u.ms, domain=positive)

    r: State = state(default=0 * u.Hz, alias="r_initializer", shape="size", lasting=True)

    def change(self, pre: Tensor, post: Tensor, weight: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        growth = (self.dt * (self.rate - r) / (self.rate * self.tau)).exp()
        r = relax(r, 0.0, self.tau_r, self.dt) + self.mean(post, self.size) / self.tau_r
        return self.bounded(weight * self.layout.of_post(growth)), r


class ThresholdAdaptation(Dynamics):
    r"""A threshold that brings a neuron to a target rate: each spike raises it, each moment without one lowers it.

    $\dot\theta = \eta\,(s - \rho)$ with the spikes s. It is shared by the batch, as the mean, and lasts: `reset_states`
    leaves it, and ``state_dict`` holds it. A threshold higher by theta is the same as a current lower by theta / R, up
    to the reset:

        >>> class Layer(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.neuron, self.homeostasis = nd.LIF(1), nd.ThresholdAdaptation(1, rate=50 * u.Hz, eta=0.1 * u.mV)
        ...
        ...     def forward(self, I):
        ...         spikes = self.neuron(I - self.homeostasis.read() / self.neuron.R)
        ...         self.homeostasis(spikes)
        ...         return spikes
        >>> spikes = nd.unroll(Layer(), torch.full((3000, 1), 2.0), compile=False)
        >>> round(spikes[1000:].mean().item(), 3)  # for each step of 1 ms
        0.05

    Input: spikes, ``(*batch, *size)``. Output: theta in mV, ``size``.

    Args:
        size: shape of the population.
        rate: the target, $\rho$ (5 Hz).
        eta: the rise at a spike (0.05 mV).
        values: further keywords of `Dynamics`.

    Source: Zhang and Linden (2003), The other side of the engram: experience-driven changes in neuronal intrinsic
    excitability, Nature Reviews Neuroscience 4; a threshold with the weights of a network in Diehl and Cook (2015),
    Front Comput Neurosci 9.
    """

    may_have_batch = False

    rate: Param = param(5 * u.Hz, domain=positive)
    eta: Param = param(0.05 * u.mV, domain=positive)

    theta: State = state(default=0 * u.mV, alias="theta_initializer", lasting=True)

    def read(self) -> Tensor:
        """Theta as it is now, in mV."""
        return self.theta

    def step(self, spike: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        theta = theta + self.eta * (mean_over_batch(spike, self.size) - self.rate * self.dt)
        return theta, theta * 1.0
