"""What spiking neurons share: threshold, reset, and how a current enters an equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from .. import surrogate as surrogates
from .. import units as u
from ..core.current import Current
from ..core.decaying import Decaying
from ..core.dynamics import Dynamics
from ..core.fields import Keyword, Param, check, keyword, param, positive
from ..core.solve import exp_euler, relax
from .above_threshold import warn_if_above_threshold

#: Bound on exponents that run away at a spike: e^30 mV is far past any threshold, and finite in float32.
RUNAWAY = 30.0


def bounded(x: Tensor) -> Tensor:
    """`x` as an exponent: e^x stays a twentieth of the largest number of the dtype or less."""
    return x.clamp(max=math.log(torch.finfo(x.dtype).max) - 3)


class Firing(Dynamics):
    """A neuron whose output is a spike, 0 or 1. It has V_th and V_reset, or a `gap` of its own.

    Args:
        surrogate: backward slope of a spike, see `neurodyn.surrogate`. The slope s is called with
            x = (V - V_th) / scale, so that the derivative of the spike by V is s(x) / scale.
        surrogate_scale: scale of V in it (mV), V_th - V_reset if None. It is `gap` where that is another
            distance. Other libraries do not divide, which is ``surrogate_scale=1 * u.mV`` here.
    """

    V_th: ClassVar[Any]
    V_reset: ClassVar[Any]
    if TYPE_CHECKING:
        surrogate: Callable[[Tensor], Tensor] = surrogates.DEFAULT
        surrogate_scale: Keyword[Any, float | None] = keyword(default=None)
    emits_spikes = True
    input_units: ClassVar[dict[str, str]] = {"I": "pA", "delta": "mV"}
    fires_while_above = False  # whether each step at or above the threshold is a spike, not the one that gets there
    thresholds = ("V_th", "V_th")  # the parameters that hold the threshold at the start and at rest

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        surrogate: Callable[[Tensor], Tensor] = surrogates.DEFAULT,
        surrogate_scale: Any = None,
        **values: Any,
    ):
        super().__init__(size, **values)
        self.surrogate = surrogates.check_surrogate(surrogate, self._label())
        self.surrogate_scale = None if surrogate_scale is None else self._as_scale(surrogate_scale)
        if bool((self.gap.detach() == 0).any()):
            raise ValueError(
                f"{self._label()}: the threshold equals the potential from which a spike starts, so that V has no "
                "scale; give them different values, for example V_th=1.0 * u.mV with V_reset=0.0 * u.mV"
            )
        warn_if_above_threshold(self, values)

    @property
    def gap(self) -> Tensor:
        """From the potential after a spike to the threshold: the scale on which V is near the threshold."""
        return self.V_th - self.V_reset

    def _as_scale(self, given: Any) -> float:
        """A distance in mV, checked."""
        label = f"{self._label()}: surrogate_scale"
        scale = float(check(given, u.canonical_unit("mV"), (), label, None, torch.float64))
        if scale <= 0:
            raise ValueError(f"{label} must be positive, got {scale:g} mV; for example surrogate_scale=1.0 * u.mV")
        return scale

    def fire(self, excess: Tensor) -> Tensor:
        """The spike: 1 where V exceeds the threshold by `excess` >= 0, whatever the sign of `gap`."""
        if isinstance(self.surrogate, surrogates.Surrogate) and not surrogates.may_differentiate():
            return (excess >= 0).to(excess.dtype)  # its scale does not matter
        if self.surrogate_scale is not None:
            return self.surrogate(excess / self.surrogate_scale)
        return self.surrogate(excess * self.gap.abs().reciprocal())

    def cross(self, before: Tensor, V: Tensor) -> Tensor:
        """The spike of a neuron without reset: V goes up through V_th. No gradient where V was above it before."""
        return self.fire(V - self.V_th) * (before < self.V_th)


class Spiking(Firing):
    """A neuron with a threshold and a reset.

    Args:
        reset: what V does after a spike. "soft" subtracts V_th - V_reset and keeps the overshoot; "hard" sets V to
            V_reset.
        reset_gradient: gradient of a reset. It is the derivative of V after the reset by V before it; S is the spike
            and S' its derivative.
            "attached" differentiates the equation: 1 - (V_th - V_reset) S' if soft, 1 - S - (V - V_reset) S' if hard.
            "detached" takes the spike in it for a constant: 1 if soft, 1 - S if hard.
            "through", the default and that of brainstate, takes the V that a hard reset subtracts for a constant:
            1 - (V - V_reset) S'; if soft it is as "attached".
        surrogate, surrogate_scale: see `Firing`.
    """

    fires_while_above = True

    if TYPE_CHECKING:
        reset: Literal["soft", "hard"] = "soft"
        reset_gradient: Literal["attached", "detached", "through"] = "through"

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        reset: Literal["soft", "hard"] = "soft",
        reset_gradient: Literal["attached", "detached", "through"] = "through",
        **values: Any,
    ):
        super().__init__(size, **values)
        if reset not in ("soft", "hard"):
            raise ValueError(f"{self._label()}: reset must be 'soft' or 'hard', got {reset!r}")
        if reset_gradient not in ("attached", "detached", "through"):
            wanted = "'attached', 'detached' or 'through'"
            raise ValueError(f"{self._label()}: reset_gradient must be {wanted}, got {reset_gradient!r}")
        self.reset, self.reset_gradient = reset, reset_gradient

    def reset_potential(self, V: Tensor, spike: Tensor, V_th: Tensor, V_reset: Tensor | float) -> Tensor:
        """V after the reset that follows `spike`; a hard reset gives exactly V_reset, however far V overshot."""
        if self.reset == "soft":
            return V - (V_th - V_reset) * (spike.detach() if self.reset_gradient == "detached" else spike)
        after = torch.where(spike > 0, V_reset, V)
        if self.reset_gradient == "detached" or not surrogates.may_differentiate():
            return after
        if self.reset_gradient == "attached":
            jump = V_reset - surrogates.held(V)
            return surrogates.straight_through(after, after + jump * (spike - spike.detach()))
        return surrogates.straight_through(after, V - (surrogates.held(V) - V_reset) * spike)


class Peaked(Firing):
    """A neuron whose equation makes the upswing of a spike; V_th cuts it off and V is set to V_reset.

    How far V overshoots V_th says nothing, so that no gradient passes from V before the reset to V after it; the
    surrogate's gradient sees a jump by `gap`.
    """

    fires_while_above = True

    def reset_potential(self, V: Tensor, spike: Tensor) -> Tensor:
        """V after a spike: exactly V_reset."""
        after = torch.where(spike > 0, self.V_reset, V)
        return surrogates.straight_through(after, after - self.gap * (spike - spike.detach()))


class Leaky(Spiking):
    r"""A neuron with the leaky membrane $\tau\,\dot V = V_{rest} - V + R\,I$.

    Args:
        R: if it is not given, $R = 1/(1 - e^{-dt/\tau})$ Gohm of the tau and dt that the layer is built with, so that
            an input of 1 pA for one step moves V by 1 mV; one value for each neuron where tau has one. It does not
            follow a tau that is learned, or a tau or dt that is set later.
    """

    R: Param = param(1 * u.Gohm, doc="resistance of the membrane", domain=positive, computed="1/(1 - exp(-dt/tau)) GΩ")
    tau: Param = param(5 * u.ms, doc="time constant of the membrane", domain=positive)

    def __init__(self, size: int | tuple[int, ...], **values: Any):
        super().__init__(size, **values)
        if "R" not in values:
            R = -1 / torch.expm1(-self.dt / self.tau.detach().double())
            learned, old = "raw_R" in self._parameters, self.R
            self._build("R", self.params["R"], u.quantity(R, "Gohm"), learned, old.device, old.dtype)


def exponential(V: Tensor, V_T: Tensor, Delta_T: Tensor) -> Tensor:
    r"""The spike-generating term $\Delta_T\,e^{(V - V_T)/\Delta_T}$ in mV, the exponent bounded by `RUNAWAY`."""
    return Delta_T * torch.exp(((V - V_T) / Delta_T).clamp(max=RUNAWAY))


def current(I: Tensor | Current, V: Tensor) -> Tensor:
    """The input current at the potential V, in pA."""
    return I(V) if isinstance(I, Current) else I


def integrate(V: Tensor, I: Tensor | Current, *, V_rest: Tensor | float, R: Tensor, tau: Tensor, dt: float) -> Tensor:
    r"""One step of the leaky membrane $\tau\,\dot V = V_{rest} - V + R\,I(V)$, exact for what decays within it."""
    if isinstance(I, Decaying):
        I = I.felt(1 / tau)
    if isinstance(I, Current):
        return exp_euler(lambda v: (V_rest - v + R * I(v)) / tau, V, dt=dt, limit=RUNAWAY)
    return relax(V, V_rest + R * I, tau, dt)
