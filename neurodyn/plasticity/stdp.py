"""Spike-timing dependent plasticity of pairs of spikes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from .. import units as u
from ..core.fields import Param, State, param, positive, state
from ..core.solve import relax
from .base import Plasticity

Pairing = Literal["all", "nearest"]


def traced(trace: Tensor, spike: Tensor, pairing: Pairing) -> Tensor:
    """A trace after the spikes of this step: one more for each, or, if only the nearest one counts, 1."""
    return trace + spike if pairing == "all" else trace + spike * (1 - trace)


class STDP(Plasticity):
    r"""STDP of pairs: a synapse grows if its input spikes before its output, and shrinks the other way round.

    $\dot x = -x/\tau_+$ for each input and $\dot y = -y/\tau_-$ for each output, both increased by 1 at a spike of
    theirs (``pairing="all"``, every spike pairs with every other), or set to 1 ("nearest", a spike pairs with the last
    one of the other side only). Then

    $\Delta w = A_+ w_{max} (1 - w/w_{max})^{\mu_+}\, x$ at a spike of the output,

    $\Delta w = -A_- w_{max} (w/w_{max})^{\mu_-}\, y$ at a spike of the input,

    in this order, with x and y from before the spikes of the step, so that two spikes in the same step are no pair.
    Weights are kept between 0 and $w_{max}$.

    ======================  ==================================================
    $\mu_+ = \mu_- = 0$     additive, the default: Song, Miller, Abbott 2000
    $\mu_+ = \mu_- = 1$     multiplicative: Rubin, Lee, Sompolinsky 2001
    $\mu_+ = 0, \mu_- = 1$  van Rossum, Bi, Turrigiano 2000
    $\mu_+ = \mu_-$         between these: Gütig and others 2003
    ======================  ==================================================

    With both amplitudes negative it is anti-Hebbian. A negative A_minus beside a positive A_plus is refused: A_minus is
    subtracted, so that what Brian2 writes as a negative second amplitude is positive here.

    Args:
        connection, weights, values: see `Plasticity`.
        w_max: the bound of the weights, in their unit; required.
        A_plus, A_minus: changes by one pair, in parts of `w_max` (0.005 and 0.00525).
        tau_plus, tau_minus: time constants of x and y (20 ms).
        mu_plus, mu_minus: exponents, two plain numbers (0).
        pairing: "all" or "nearest".

    Example:
        >>> rule = nd.STDP(nd.OneToOne(1, weight=[0.5]), w_max=1.0, A_plus=0.1)
        >>> _ = rule(torch.ones(1), torch.zeros(1)), rule(torch.zeros(1), torch.ones(1))  # 1 ms later
        >>> round(rule.weight.item(), 4)  # 0.5 + 0.1 exp(-1 / 20)
        0.5951

    Source: Song, Miller and Abbott (2000), Competitive Hebbian learning through spike-timing-dependent synaptic
    plasticity, Nature Neuroscience 3; van Rossum, Bi and Turrigiano (2000), Stable Hebbian learning from spike
    timing-dependent plasticity, J Neurosci 20; Gütig, Aharonov, Rotter and Sompolinsky (2003), Learning input
    correlations through nonlinear temporally asymmetric Hebbian plasticity, J Neurosci 23; Morrison, Diesmann and
    Gerstner (2008), Phenomenological models of synaptic plasticity based on spike timing, Biol Cybern 98.
    """

    needs_bound = True
    A_plus: Param = param(0.005)
    A_minus: Param = param(0.00525)
    tau_plus: Param = param(20 * u.ms, domain=positive)
    tau_minus: Param = param(20 * u.ms, domain=positive)

    x: State = state(default=0.0, alias="x_initializer", shape="pre_size")
    y: State = state(default=0.0, alias="y_initializer", shape="size")

    if TYPE_CHECKING:
        mu_plus: float = 0.0
        mu_minus: float = 0.0
        pairing: Pairing = "all"

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(
            self,
            connection: nn.Module,
            *,
            mu_plus: float = 0.0,
            mu_minus: float = 0.0,
            pairing: Pairing = "all",
            **values: Any,
        ):
            if pairing not in ("all", "nearest"):
                raise ValueError(f"{type(self).__name__}: pairing must be 'all' or 'nearest', got {pairing!r}")
            for name, mu in (("mu_plus", mu_plus), ("mu_minus", mu_minus)):
                if not isinstance(mu, (int, float)) or not 0 <= mu < math.inf:
                    raise ValueError(f"{type(self).__name__}: {name} must be a number, 0 or positive, got {mu!r}")
            super().__init__(connection, **values)
            self._check_signs()
            self.mu_plus, self.mu_minus = float(mu_plus), float(mu_minus)
            self.pairing: Pairing = pairing

    def change(self, pre: Tensor, post: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, y = relax(x, 0.0, self.tau_plus, self.dt), relax(y, 0.0, self.tau_minus, self.dt)
        up, down = self.A_plus * self.w_max, -self.A_minus * self.w_max
        weight = self.add_pairs(weight, post, up * x, room=self.mu_plus)
        weight = self.add_pairs(weight, down * y, pre, share=self.mu_minus)
        return weight, traced(x, pre, self.pairing), traced(y, post, self.pairing)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mu_plus={self.mu_plus:g}, mu_minus={self.mu_minus:g}, pairing={self.pairing!r}"
