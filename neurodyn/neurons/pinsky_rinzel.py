"""Pinsky and Rinzel's pyramidal cell of the hippocampus, a soma and a dendrite."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import units as u
from ..core.coupled import coupled_exp_euler
from ..core.current import Current
from ..core.fields import Domain, Param, State, nonnegative, param, positive, state
from ..core.precise import precise
from ..core.solve import gate, relax, with_slope
from .base import RUNAWAY, Firing, bounded, current
from .hh import rectified

#: Of the membrane, so that both compartments have some.
PART = Domain("above 0 and below 1", lambda x: (x > 0) & (x < 1), torch.logit, lambda raw: raw.clamp(-15, 15).sigmoid())


class PinskyRinzel(Firing):
    r"""Pinsky-Rinzel neuron: sodium spikes of the soma, calcium spikes of the dendrite, and bursts of both.

    $C\,\dot V = -g_L (V - E_L) - g_{Na} m_\infty^2(V)\,h\,(V - E_{Na}) - g_{DR}\,n\,(V - E_K)
    + \frac{g_c}{p} (V_d - V) + \frac{I}{p}$ in the soma and
    $C\,\dot V_d = -g_L (V_d - E_L) - g_{Ca} s^2 (V_d - E_{Ca}) - g_{AHP}\,q\,(V_d - E_K)
    - g_C\,c\,\chi(Ca)\,(V_d - E_K) + \frac{g_c}{1 - p} (V - V_d) + \frac{I_d}{1 - p}$ in the dendrite, with
    $\chi = \min(Ca / 250, 1)$, $\dot{Ca} = -0.13\,I_{Ca} - 0.075\,Ca$ for the calcium, which has no unit, and
    $\dot x = \alpha_x (1 - x) - \beta_x x$ for the gates h, n, s, c and q; then ``delta`` is added to V. V and V_d
    make one step together, by the exponential of their 2 x 2 system, which is stable for every g_c. Gates and calcium
    see the potentials from before the step. A spike is the step in which V goes up through V_th; nothing is reset.

    Input: current I into the soma in pA, and optionally ``dendrite``, the current $I_d$ into the dendrite (each a
    tensor or a `Current`, which sees the potential of its compartment), and ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape. States: V, V_d in mV, gates h, n, s, c, q, and Ca, near rest. Take dt of
    0.05 ms or less. In half precision the step is computed in float32. V, V_d and Ca end at 1e9, in float16 at 32,752.

    Source: Pinsky and Rinzel (1994), Intrinsic and network rhythmogenesis in a reduced Traub model for CA3 neurons,
    Journal of Computational Neuroscience 1, with the erratum of 1995; potentials are absolute, with 0 mV of the paper
    at -60 mV. The whole membrane has 100 um^2, on which 1 uF/cm^2 is 1 pF, 1 mS/cm^2 is 1 nS and 1 uA/cm^2 is 1 pA.

    Example:
        >>> neuron = nd.PinskyRinzel(2, dt=0.05 * u.ms)
        >>> I = torch.tensor([0.0, 2.5])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([0., 3.])
    """

    C: Param = param(3 * u.pF, doc="capacitance of the membrane", domain=positive)
    p: Param = param(0.5, doc="part of the membrane that belongs to the soma", domain=PART)
    g_c: Param = param(2.1 * u.nS, doc="conductance between soma and dendrite", domain=nonnegative)
    g_L: Param = param(0.1 * u.nS, doc="leak conductance", domain=nonnegative)
    g_Na: Param = param(30 * u.nS, doc="sodium conductance of the soma", domain=nonnegative)
    g_DR: Param = param(15 * u.nS, doc="delayed-rectifier potassium conductance of the soma", domain=nonnegative)
    g_Ca: Param = param(10 * u.nS, doc="calcium conductance of the dendrite", domain=nonnegative)
    g_AHP: Param = param(0.8 * u.nS, doc="slow calcium-dependent potassium conductance", domain=nonnegative)
    g_C: Param = param(15 * u.nS, doc="fast calcium- and voltage-dependent potassium conductance", domain=nonnegative)
    E_L: Param = param(-60 * u.mV, doc="reversal potential of the leak")
    E_Na: Param = param(60 * u.mV, doc="reversal potential of sodium")
    E_K: Param = param(-75 * u.mV, doc="reversal potential of potassium")
    E_Ca: Param = param(80 * u.mV, doc="reversal potential of calcium")
    V_th: Param = param(-20 * u.mV, doc="potential of the soma whose upward crossing is a spike")

    V: State = state(default=-64.6 * u.mV, alias="V_initializer")
    V_d: State = state(default=-64.5 * u.mV, alias="V_d_initializer")
    h: State = state(default=0.999, alias="h_initializer")
    n: State = state(default=0.001, alias="n_initializer")
    s: State = state(default=0.009, alias="s_initializer")
    c: State = state(default=0.007, alias="c_initializer")
    q: State = state(default=0.01, alias="q_initializer")
    Ca: State = state(default=0.2, alias="Ca_initializer")

    time_scale = 0.1  # ms: a quarter of the spikes of a burst are lost there, half of them at 0.25 ms

    @property
    def V_reset(self) -> Tensor:
        """The potential from which a spike starts."""
        return self.E_L

    def step(
        self,
        I: Tensor | Current,
        V: Tensor,
        V_d: Tensor,
        h: Tensor,
        n: Tensor,
        s: Tensor,
        c: Tensor,
        q: Tensor,
        Ca: Tensor,
        dendrite: Tensor | Current | None = None,
        delta: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        dtype, wide = V.dtype, precise(V.dtype)  # of half precision, in which spikes and their gradients overflow
        V, V_d, h, n, s, c, q, Ca = (x.to(wide) for x in (V, V_d, h, n, s, c, q, Ca))
        g_Ca, g_K = self.g_Ca * s**2, self.g_AHP * q + self.g_C * c * (Ca / 250).clamp(0, 1)
        I_d = torch.zeros_like(V_d) if dendrite is None else dendrite

        def soma(v: Tensor) -> Tensor:
            opening, closing = rates_of_m(v + 60)
            g_Na = self.g_Na * (opening / (opening + closing)) ** 2 * h
            ionic = self.g_L * (v - self.E_L) + g_Na * (v - self.E_Na) + self.g_DR * n * (v - self.E_K)
            return (current(I, v) / self.p - ionic) / self.C

        def branch(v: Tensor) -> Tensor:
            ionic = self.g_L * (v - self.E_L) + g_Ca * (v - self.E_Ca) + g_K * (v - self.E_K)
            return (current(I_d, v) / (1 - self.p) - ionic) / self.C

        (f, a), (g, d) = with_slope(soma, V), with_slope(branch, V_d)
        of_soma, of_branch = self.g_c / (self.p * self.C), self.g_c / ((1 - self.p) * self.C)
        rate = f + of_soma * (V_d - V), g + of_branch * (V - V_d)
        slopes, coupling = (a - of_soma, d - of_branch), (of_soma, of_branch)
        new, new_d = coupled_exp_euler((V, V_d), rate, slopes, coupling, self.dt, RUNAWAY)
        if delta is not None:
            new = new + delta
        calcium = relax(Ca, -0.13 / 0.075 * g_Ca * (V_d - self.E_Ca), torch.full_like(Ca, 1 / 0.075), self.dt)
        (of_h, of_n), (of_s, of_c, of_q) = rates_of_soma(V + 60), rates_of_dendrite(V_d + 60, Ca)
        gates = zip((h, n, s, c, q), (of_h, of_n, of_s, of_c, of_q), strict=True)
        h, n, s, c, q = (gate(x, opening, closing, self.dt) for x, (opening, closing) in gates)
        gates = [x.to(dtype) for x in (h, n, s, c, q)]
        return self.cross(V, new), finite(new, dtype), finite(new_d, dtype), *gates, finite(calcium, dtype)


def finite(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The value in this dtype; what runs away stays finite, as do its products."""
    largest = min(1e9, torch.finfo(dtype).max / 2)
    return x.clamp(-largest, largest).to(dtype)


def rates_of_m(v: Tensor) -> tuple[Tensor, Tensor]:
    r"""Opening and closing rates of m in 1/ms at v mV above -60 mV, as in the paper."""
    return 1.28 * rectified((v - 13.1) / 4), 1.4 * rectified((40.1 - v) / 5)


def rates_of_soma(v: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Those of h and n."""
    h = 0.128 * torch.exp(bounded((17 - v) / 18)), 4 * torch.sigmoid((v - 40) / 5)
    return h, (0.08 * rectified((v - 35.1) / 5), 0.25 * torch.exp(bounded(0.5 - 0.025 * v)))


def rates_of_dendrite(v: Tensor, Ca: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Those of s, c and q."""
    s = 1.6 * torch.sigmoid(0.072 * (v - 65)), 0.1 * rectified((51.1 - v) / 5)
    total = 2 * torch.exp(bounded((6.5 - v.clamp(max=1000)) / 27))  # which is a divisor and must not be 0
    opening = torch.exp(bounded((v.clamp(max=50) - 10) / 11 - (v.clamp(max=50) - 6.5) / 27)) / 18.975
    opening = torch.minimum(torch.where(v > 50, total, opening), total)
    q = (2e-5 * Ca).clamp(0, 0.01), torch.full_like(Ca, 0.001)  # Ca is negative where V_d was far above E_Ca
    return s, (opening, total - opening), q
