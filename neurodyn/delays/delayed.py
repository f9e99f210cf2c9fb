"""Delays in ms as time steps, which follow what is loaded, assigned or written in place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import (
    Domain,
    Keyword,
    Param,
    Parametrised,
    between,
    check,
    keyword,
    nonnegative,
    param,
    positive,
    show,
)
from ..core.loading import broadcasts, precision
from ..tools.versions import version_of
from ..torch_private import inside_transform, is_fake

Interpolation = Literal["none", "linear", "gaussian"]

_MOST = 2**20  # steps; more are a mistake in a unit, or a damaged file
_COMPARED = 1024  # values that are compared at each call


class Delayed(Parametrised):
    """A delay, or one for each element of `size`, and its bounds in time steps.

    After `set_bounds`: `least` and `length` are the shortest and longest delay in whole steps, and `whole` says whether
    all fixed delays are whole steps. They follow from the delays and, for learned ones, from the buffer `max_delay`
    (ms); `settle` derives them anew after a change.
    """

    __slots__ = ("seen",)  # no attribute of the model: which tensors, as they were when the rest was derived from them

    delay: Param = param(unit=u.ms, domain=nonnegative, doc="the delay")
    if TYPE_CHECKING:  # attributes, no keywords
        min_delay: Tensor = keyword(init=False)
        max_delay: Keyword[Any, Tensor] = keyword(init=False)
        sigma: Keyword[Any, Tensor] = keyword(init=False)
        _before: Tensor | None = keyword(init=False)
        _late: Tensor | None = keyword(init=False)

    def set_bounds(
        self, dt: float, interpolation: Interpolation, max_delay: Any, sigma: Any = None, drawn: bool = False
    ) -> None:
        """Derive everything for the first time; `drawn` delays that are not interpolated are rounded to steps."""
        if interpolation not in ("none", "linear", "gaussian"):
            kinds = "'none', 'linear' or 'gaussian'"
            raise ValueError(f"{self._label()}: interpolation must be {kinds}, got {interpolation!r}")
        initial = self.delay.detach()
        self.dt, self.interpolation = dt, interpolation
        self.learned = self.delay.requires_grad
        if interpolation == "none" and self.learned:
            raise ValueError(f"{self._label()}: a learned delay needs interpolation='linear' or 'gaussian'")
        if max_delay is not None and not self.learned:
            raise ValueError(f"{self._label()}: max_delay is the bound of a learned delay; pass learn='delay' with it")
        if interpolation == "gaussian" and not self.learned:
            raise ValueError(
                f"{self._label()}: interpolation='gaussian' is for learned delays; pass learn='delay' with it, or "
                "interpolation='linear' for a fixed delay between two steps"
            )
        if sigma is not None and interpolation != "gaussian":
            raise ValueError(f"{self._label()}: sigma is the width of interpolation='gaussian', got {interpolation!r}")
        if self.learned:
            self._set_learned(initial, dt, max_delay)
        elif drawn and interpolation == "none":
            steps = (initial.double() / dt).round_()
            steps.clamp_(min=(initial > 0).to(steps))  # what comes later does not come at once, and read() can give it
            self._buffers["delay"] = steps.mul_(dt).to(initial.dtype)
        if interpolation == "gaussian":
            self.register_buffer("sigma", self.max_delay / 2)
            if sigma is not None:
                self.sigma = sigma
        self.settle()

    def _set_learned(self, initial: Tensor, dt: float, max_delay: Any) -> None:
        longest = float(initial.max()) if initial.numel() else dt
        limit = 2 * longest if max_delay is None else float(u.to_canonical(max_delay))
        inside = not initial.numel() or dt * (1 - 1e-6) <= float(initial.min()) <= longest <= limit * (1 + 1e-6)
        if not inside or limit <= dt * (1 + 1e-6):
            raise ValueError(
                f"{self._label()}: a learned delay lies between dt={dt:g} ms and a longer max_delay={limit:g} ms, got "
                f"{show(initial, u.registry.ms)}"
            )
        like = {"dtype": initial.dtype, "device": initial.device}
        self.register_buffer("min_delay", torch.tensor(dt, **like))
        self.register_buffer("max_delay", torch.tensor(limit, **like))
        if "raw_delay" in self._parameters:  # which was made before the bounds were known
            domain = self.domain_of("delay")
            assert domain is not None
            with torch.no_grad():
                self._parameters["raw_delay"].copy_(domain.to_raw(initial))  # type: ignore[union-attr]

    def domain_of(self, name: str) -> Domain | None:
        """A learned delay lies between dt and `max_delay`."""
        if name != "delay" or "max_delay" not in self._buffers or "delay" in self._parameters:
            return super().domain_of(name)
        return between(self.min_delay, self.max_delay, "between dt and max_delay")

    def settle(self) -> None:
        """Derive what follows from the delays, if they are others than last time.

        Raises:
            ValueError: delays that are negative, not finite, too long, or no multiples of dt without interpolation.
        """
        if torch.compiler.is_compiling() or is_fake(self._source()) or inside_transform() or self._is_settled():
            return
        self.derive()
        self._mark()

    def derive(self, tolerance: float = 0.0) -> None:
        """Derive it; delays within `tolerance`, relative, of a whole number of steps are meant to be whole."""
        if self.learned:
            limit = float(self.max_delay) / self.dt
            if not 1 - 1e-6 <= limit <= _MOST:
                raise ValueError(f"{self._label()}: max_delay is {limit:g} steps; wanted 1 to {_MOST}")
            self.length, self.least, self.whole, late = max(1, math.ceil(limit * (1 - 1e-6))), 1, False, None
            before = None
        else:
            if not broadcasts(self.delay, self.size):
                shape = tuple(self.delay.shape)
                raise ValueError(f"{self._label()}: delay has shape {shape}, which does not broadcast to {self.size}")
            before, late = self.in_steps(self.delay.detach(), tolerance)
            longest = int(before.max()) + (late is not None) if before.numel() else 1
            if late is not None and not bool(late[before == before.max()].any()):
                longest -= 1
            self.length, self.whole = max(1, longest), late is None
            self.least = int(before.min()) if before.numel() else 1
        self.register_buffer("_before", before, persistent=False)
        self.register_buffer("_late", late, persistent=False)

    def in_steps(self, delay: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Delays in ms as whole steps, in int32, and what is left of each; None if nothing is, for all of them.

        Raises:
            ValueError: see `settle`.
        """
        steps = delay.double() / self.dt
        if not bool(((steps >= 0) & (steps <= _MOST)).all()):
            raise ValueError(
                f"{self._label()}: delay must be zero or positive and at most {_MOST} steps of dt={self.dt:g} ms, got "
                f"{show(delay, u.registry.ms)}"
            )
        error = max(1e-6, 2 * precision(delay), 2 * tolerance)  # whole up to the rounding of the dtype
        near = (steps - steps.round()).abs() <= (error * steps.clamp(min=1)).clamp(max=0.49)
        if self.interpolation == "none" and not bool(near.all()):
            raise ValueError(
                f"{self._label()}: delay {show(delay[~near], u.registry.ms)} is no multiple of dt={self.dt:g} ms; "
                "round it, or pass interpolation='linear'; torch.round(delay / dt) * dt are whole steps"
            )
        steps = torch.where(near, steps.round(), steps)
        before = steps.floor()
        late = (steps - before).to(delay.dtype)
        return before.to(torch.int32), late if bool(late.any()) else None

    def parts(self) -> tuple[Tensor, Tensor | None]:
        """The delays in whole steps and what is left; learned ones within their bounds."""
        if self._before is not None:
            return self._before, self._late
        steps = self._learned_steps()
        # Diverged in training, it gives nan, and no wrong index. At the upper bound the gradient is that from below.
        before = steps.detach().floor().nan_to_num(1.0).clamp(1, max(1, self.length - 1))
        return before.to(torch.int32), steps - before

    def kernel(self) -> Tensor:
        """How much of the input of 1, 2, ... `length` steps ago comes back: a Gaussian around each learned delay.

        Shape ``(length, *delay.shape)``; sums to 1 along the first dimension. Below dt / 100, `sigma` counts as that.
        """
        steps = self._learned_steps()
        lag = torch.arange(1, self.length + 1, dtype=steps.dtype, device=steps.device)
        z = (lag.view(-1, *[1] * steps.dim()) - steps) / (self.sigma / self.dt).clamp(min=0.01)
        return torch.softmax(-0.5 * z * z, 0)

    def _learned_steps(self) -> Tensor:
        steps = self.delay / self.dt
        if "delay" not in self._parameters:
            return steps
        # An nn.Parameter of the user's own has no bounds. It counts as the bound, and its gradient leads back.
        return steps + (steps.clamp(1, self.length) - steps).detach()

    def check_readable(self, dt: float) -> None:
        """Raise ValueError if a delayed value of the coming step depends on the input of that step."""
        if self.least < 1:
            raise ValueError(
                f"{self._label()}: read() needs delays of at least dt={dt:g} ms, the shortest is "
                f"{show(self.delay.detach().min(), u.registry.ms)}; call it with the input instead"
            )

    def _source(self) -> Tensor:
        return self.max_delay if self.learned else self.delay

    def _mark(self) -> None:
        source = self._source()
        some = source.numel() <= _COMPARED and source.is_cpu and type(source) in (Tensor, nn.Parameter)
        self.seen = source, version_of(source), source.data_ptr(), self.dt, source.detach().clone() if some else None

    def _is_settled(self) -> bool:
        source, seen = self._source(), getattr(self, "seen", None)
        if type(source) not in (Tensor, nn.Parameter) or source.is_meta:
            return True  # not the values, but what a trace or a transform has in their place
        if seen is None or seen[3] != self.dt:
            return False
        if seen[4] is not None:  # also of .data, which nothing else tells of
            return source.is_cpu and source.dtype == seen[4].dtype and torch.equal(source.detach(), seen[4])
        return seen[0] is source and seen[1] == version_of(source) and seen[2] == source.data_ptr()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Another dtype or device is no change of the delays, even if they are rounded now."""
        settled = self._is_settled()
        super()._apply(fn, recurse)
        if settled and not self._source().is_meta:
            self._mark()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "sigma" and (u.is_quantity(value) or not isinstance(value, Tensor)):
            like = self._buffers.get(name)
            if like is None:
                raise ValueError(
                    f"{self._label()}: sigma is the width of interpolation='gaussian', which it does not have"
                )
            label = f"{self._label()}: sigma"
            width = check(value, u.registry.ms, (), label, like.device, like.dtype)
            if not bool(positive.contains(width)):
                raise ValueError(f"{label} must be positive, got {show(width, u.registry.ms)}")
            like.copy_(width)
            return
        if name == "max_delay" and u.is_quantity(value):
            self._set_bound(value)
            return
        if name not in ("delay", "max_delay") or not hasattr(self, "seen"):
            super().__setattr__(name, value)
            return
        former = self.delay.detach().clone()
        place = next((tensors for tensors in (self._parameters, self._buffers) if name in tensors), {})
        before = place.get(name)
        super().__setattr__(name, value)
        try:
            self.settle()
        except ValueError:
            if before is not None and self.delay is not before:  # which a parameter has taken the place of
                self._parameters.pop(name, None)
                place[name] = before  # type: ignore[index]
            if name == "delay":
                super().__setattr__(name, former)
            raise

    def _set_bound(self, value: Any) -> None:
        """Set `max_delay`, a quantity; the learned delays stay as they are."""
        label = f"{self._label()}: max_delay"
        if not self.learned:
            raise ValueError(f"{label} is the bound of a learned delay; build it with learn='delay'")
        delay, former = self.delay.detach().clone(), self.max_delay.clone()
        self.max_delay.copy_(check(value, u.registry.ms, (), label, former.device, former.dtype))
        try:
            self.delay = delay
        except ValueError:
            self.max_delay.copy_(former)
            raise

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self._source().is_meta:
            self._mark()  # what was derived came along

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        errors = rest[-1]
        try:
            known, tolerance = self._from_file(state_dict, prefix)
        except (ValueError, TypeError) as error:
            errors.append(str(error))
            return
        before = len(errors)
        if hasattr(self, "seen"):
            del self.seen  # settled when all is loaded
        super()._load_from_state_dict(known, prefix, *rest)
        if len(errors) == before:
            self.derive(tolerance)
            if self._before is not None and self._late is None and tolerance > precision(self.delay):
                with torch.no_grad():
                    self.delay.copy_(self._before.double() * self.dt)  # which the file has rounded
            self._mark()

    def _from_file(self, state_dict: dict[str, Any], prefix: str) -> tuple[dict[str, Any], float]:
        """What is about to be loaded, as this layer holds it, and the precision of its delays."""
        known = dict(state_dict)
        fixed, raw, low, high, sigma = (
            known.pop(f"{prefix}{name}", None) for name in ("delay", "raw_delay", "min_delay", "max_delay", "sigma")
        )
        delay = self.saved_delay(state_dict, prefix)
        tolerance = self._check_delay(delay, high)
        if not self.learned:
            return known | ({} if delay is None else {f"{prefix}delay": delay}), tolerance
        known[f"{prefix}min_delay"] = self.min_delay.detach()
        known[f"{prefix}max_delay"] = high = self._bound(delay) if high is None else high
        if "sigma" in self._buffers:
            known[f"{prefix}sigma"] = self.sigma.detach() if sigma is None else sigma
        if "delay" in self._parameters or delay is None:
            name = "delay" if "delay" in self._parameters else "raw_delay"
            return known | ({} if delay is None else {f"{prefix}{name}": delay}), tolerance
        if (
            isinstance(raw, Tensor)
            and fixed is None
            and isinstance(low, Tensor)
            and float(low) == float(self.min_delay)
        ):
            return known | {f"{prefix}raw_delay": raw}, tolerance
        if isinstance(delay, Tensor) and isinstance(high, Tensor):
            own = between(self.min_delay.to(delay), high.to(delay), "between dt and max_delay")
            if not bool(own.contains(delay).all()):
                raise ValueError(
                    f"{self._label()}: a learned delay lies between dt={self.dt:g} ms and max_delay={float(high):g} "
                    f"ms, the file has {show(delay, u.registry.ms)}"
                )
            known[f"{prefix}raw_delay"] = own.to_raw(delay)
        return known, tolerance

    def saved_delay(self, state_dict: dict[str, Any], prefix: str) -> Any:
        """The delay in a file in ms, also a learned one; None if there is none.

        Raises:
            ValueError: bounds that cannot be.
        """
        raw, low, high = (state_dict.get(f"{prefix}{name}") for name in ("raw_delay", "min_delay", "max_delay"))
        if f"{prefix}delay" in state_dict or not isinstance(raw, Tensor):
            return state_dict.get(f"{prefix}delay")
        for name, value in (("min_delay", low), ("max_delay", high)):
            if isinstance(value, Tensor) and (value.numel() != 1 or not 0 < float(value) < math.inf):
                raise ValueError(f"{self._label()}: {name} in the file is {value}, wanted one positive number")
        if isinstance(low, Tensor) and isinstance(high, Tensor):
            return between(low.to(raw).view(()), high.to(raw).view(()), "").from_raw(raw.detach())
        return nonnegative.from_raw(raw.detach())  # an older file, in which it is the logarithm

    def _bound(self, delay: Any) -> Tensor:
        """A bound for delays from a file that has none: longer than the longest."""
        longest = float(delay.max()) if isinstance(delay, Tensor) and delay.numel() else 0.0
        own = self.max_delay.detach()
        return own if longest <= float(own) else torch.full_like(own, 2 * longest)

    def _check_delay(self, delay: Any, max_delay: Any) -> float:
        """Check what is about to be loaded; returns the precision of its dtype."""
        if not isinstance(delay, Tensor):
            return 0.0
        if not delay.dtype.is_floating_point:
            raise TypeError(f"{self._label()}: delay in the file is {delay.dtype}, wanted floating-point ms")
        if self.learned:
            if not bool(((delay > 0) & delay.isfinite()).all()):
                raise ValueError(
                    f"{self._label()}: a learned delay is positive and finite, got {show(delay, u.registry.ms)}"
                )
            if isinstance(max_delay, Tensor) and (max_delay.numel() != 1 or not self.dt < max_delay * (1 + 1e-6)):
                raise ValueError(f"{self._label()}: max_delay in the file is {max_delay}, wanted one longer than dt")
            if isinstance(max_delay, Tensor) and not max_delay <= _MOST * self.dt:
                raise ValueError(f"{self._label()}: max_delay in the file is more than {_MOST} steps; use a longer dt")
            return 0.0
        self.in_steps(delay, precision(delay))
        return precision(delay)


def narrow_delays(net: nn.Module, factor: float, least: Any = None) -> None:
    """Make the Gaussian kernels of all learned delays in `net` narrower: their `sigma` times `factor`.

    Call it after each epoch or step. Wide kernels let a delay learn from inputs that are far from it, narrow ones make
    it exact; n calls with ``(last / first) ** (1 / n)`` lead from one width to the other. A checkpoint keeps `sigma`.

    Args:
        factor: positive; at most 1.
        least: the narrowest that a kernel becomes (ms); a quarter of dt if not given, which is nearly one step.

    Raises:
        ValueError: another factor, or a network without such delays.

    Example:
        >>> delay = nd.Delay(1, 5 * u.ms, interpolation="gaussian", sigma=8 * u.ms, learn="delay")
        >>> nd.narrow_delays(delay, 0.5)
        >>> delay.sigma
        tensor(4.)
    """
    if not 0 < factor <= 1:
        raise ValueError(f"narrow_delays: factor must be positive and at most 1, got {factor!r}")
    found = [m for m in net.modules() if isinstance(m, Delayed) and m.interpolation == "gaussian"]
    if not found:
        raise ValueError(f"narrow_delays: {type(net).__name__} has no delays with interpolation='gaussian'")
    for module in found:
        narrowest = (
            0.25 * module.dt
            if least is None
            else float(check(least, u.registry.ms, (), "narrow_delays: least", None, torch.float64))
        )
        module.sigma.copy_(torch.minimum(module.sigma, (module.sigma * factor).clamp(min=narrowest)))
