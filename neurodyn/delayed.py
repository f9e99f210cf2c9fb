"""Delays in ms as time steps, which follow what is loaded, assigned or written in place."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import units as u
from .fields import Parametrised, nonnegative, param, show
from .loading import broadcasts, precision
from .torch_private import inside_transform, is_fake

Interpolation = Literal["none", "linear"]

_MOST = 2**20  # steps; more are a mistake in a unit, or a damaged file
_COMPARED = 1024  # values that are compared at each call


class Delayed(Parametrised):
    """A delay, or one for each element of `size`, and its bounds in time steps.

    After `set_bounds`: `least` and `length` are the shortest and longest delay in whole steps, and `whole` says whether
    all fixed delays are whole steps. They follow from the delays and, for learned ones, from the buffer `max_delay`
    (ms); `settle` derives them anew after a change.
    """

    __slots__ = ("seen",)  # no attribute of the model: which tensors, as they were when the rest was derived from them

    delay: Tensor = param(unit=u.ms, domain=nonnegative)
    max_delay: Tensor
    _before: Tensor | None
    _late: Tensor | None

    def set_bounds(self, dt: float, interpolation: Interpolation, max_delay: Any) -> None:
        """Derive everything for the first time."""
        if interpolation not in ("none", "linear"):
            raise ValueError(f"{self._label()}: interpolation must be 'none' or 'linear', got {interpolation!r}")
        initial = self.delay.detach()
        self.dt, self.interpolation = dt, interpolation
        self.learned = self.delay.requires_grad
        if interpolation == "none" and self.learned:
            raise ValueError(f"{self._label()}: a learned delay needs interpolation='linear'")
        if max_delay is not None and not self.learned:
            raise ValueError(f"{self._label()}: max_delay is the bound of a learned delay; pass learn='delay' with it")
        if self.learned:
            longest = float(initial.max()) if initial.numel() else dt
            limit = 2 * longest if max_delay is None else float(u.to_canonical(max_delay))
            if initial.numel() and not dt * (1 - 1e-6) <= float(initial.min()) <= longest <= limit * (1 + 1e-6):
                raise ValueError(
                    f"{self._label()}: a learned delay lies between dt={dt:g} ms and max_delay={limit:g} ms, got "
                    f"{show(initial, u.registry.ms)}"
                )
            self.register_buffer("max_delay", torch.tensor(limit, dtype=initial.dtype, device=initial.device))
        self.settle()

    def settle(self) -> None:
        """Derive what follows from the delays, if they are others than last time.

        Raises:
            ValueError: delays that are negative, not finite, too long, or no multiples of dt without interpolation.
        """
        if torch.compiler.is_compiling() or is_fake(self.delay) or inside_transform() or self._is_settled():
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
                "round it, or pass interpolation='linear'"
            )
        steps = torch.where(near, steps.round(), steps)
        before = steps.floor()
        late = (steps - before).to(delay.dtype)
        return before.to(torch.int32), late if bool(late.any()) else None

    def parts(self) -> tuple[Tensor, Tensor | None]:
        """The delays in whole steps and what is left; learned ones within their bounds."""
        if self._before is not None:
            return self._before, self._late
        steps = (self.delay / self.dt).clamp(1, self.length)
        before = steps.detach().floor().nan_to_num(1.0)  # diverged in training, it gives nan, and no wrong index
        return before.to(torch.int32), steps - before

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
        self.seen = source, _version(source), source.data_ptr(), self.dt, source.detach().clone() if some else None

    def _is_settled(self) -> bool:
        source, seen = self._source(), getattr(self, "seen", None)
        if type(source) not in (Tensor, nn.Parameter) or source.is_meta:
            return True  # not the values, but what a trace or a transform has in their place
        if seen is None or seen[3] != self.dt:
            return False
        if seen[4] is not None:  # also of .data, which nothing else tells of
            return source.is_cpu and source.dtype == seen[4].dtype and torch.equal(source.detach(), seen[4])
        return seen[0] is source and seen[1] == _version(source) and seen[2] == source.data_ptr()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Another dtype or device is no change of the delays, even if they are rounded now."""
        settled = self._is_settled()
        super()._apply(fn, recurse)
        if settled and not self._source().is_meta:
            self._mark()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("delay", "max_delay") and hasattr(self, "seen"):
            self.settle()

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self._source().is_meta:
            self._mark()  # what was derived came along

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        known, errors, key = dict(state_dict), rest[-1], f"{prefix}max_delay"
        fixed, raw = known.get(f"{prefix}delay"), known.get(f"{prefix}raw_delay")
        if isinstance(raw, Tensor) and fixed is None:
            fixed = nonnegative.from_raw(raw.detach())
        if not self.learned:
            known.pop(key, None)
        elif key not in known:  # a file of neurodyn 0.1: the bound grows with the delays
            longest = float(fixed.max()) if isinstance(fixed, Tensor) and fixed.numel() else 0.0
            known[key] = self.max_delay.detach().clamp(min=longest)
        try:
            tolerance = self._check_file(fixed, known.get(key))
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

    def _check_file(self, delay: Any, max_delay: Any) -> float:
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
            if isinstance(max_delay, Tensor) and (max_delay.numel() != 1 or not self.dt <= max_delay * (1 + 1e-6)):
                raise ValueError(f"{self._label()}: max_delay in the file is {max_delay}, wanted one of at least dt")
            if isinstance(max_delay, Tensor) and not max_delay <= _MOST * self.dt:
                raise ValueError(f"{self._label()}: max_delay in the file is more than {_MOST} steps; use a longer dt")
            return 0.0
        self.in_steps(delay, precision(delay))
        return precision(delay)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
