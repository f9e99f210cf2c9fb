"""What a compiled chunk does, if it does nothing but call kernels: told from a call in which these do nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from .kernels import Call, Cpp, NotReady, Triton, kernels_of
from .replay import GpuPlan, Plan
from .rounds import MOST
from .threads import Work

_KEPT = 64  # plans for one chunk


class Tape:
    """The kernels that a compiled chunk calls, and with what.

    Args:
        function: what Inductor wrote, and `runner` its first argument.
        kernels: those that it calls.
        work: what it computes, if on a CPU.
    """

    def __init__(self, function: Any, runner: Any, kernels: dict[str, Cpp | Triton], work: Work | None):
        self.code, self.scope, self.runner = function.__code__, function.__globals__, runner
        self.kernels, self.work = kernels, work
        self.plans: dict[tuple[int, ...], Plan | None] = {}

    @classmethod
    def of(cls, chunk: Any, work: Work | None) -> Tape | None:
        """The tape of a chunk compiled by Inductor; None if it does anything but call kernels on one device."""
        try:
            call = chunk.current_callable
            if inspect.isfunction(call):  # around it, one that copies inputs which lie at an odd address
                call = inspect.getclosurevars(call).nonlocals["model"]
            kernels = kernels_of(call.__code__, call.__globals__)
            if kernels is None or {type(kernel) for kernel in kernels.values()} != {Triton if work is None else Cpp}:
                return None
            return cls(call, call.__self__, kernels, work)
        except (AttributeError, KeyError, TypeError, ValueError, OSError):  # another kind of code
            return None

    def plan(
        self, sizes: tuple[int, ...], carry: Sequence[Tensor], inputs: Callable[[], Sequence[Tensor]]
    ) -> Plan | None:
        """How to call the chunk's kernels; None if it must be called itself.

        Args:
            sizes: the free ones.
            carry: the inputs that the chunk before handed on, whose shapes are to be those of the outputs.
            inputs: gives inputs of the chunk, which are only looked at.
        """
        if sizes in (plans := self.plans):
            return plans[sizes]
        if len(plans) >= _KEPT:
            plans = self.plans = {}
        like = [torch.empty((), dtype=x.dtype, device=x.device).expand(x.shape) for x in inputs()]
        try:
            plans[sizes] = self._learn(like, [x.shape for x in carry])
        except (NotReady, torch.OutOfMemoryError):
            return None
        except Exception:  # what torch keeps to itself is not as it was
            plans[sizes] = None
        return plans[sizes]

    def _learn(self, inputs: list[Tensor], carried: list[torch.Size]) -> Plan | None:
        """Call the chunk with kernels that do nothing."""
        calls: list[Call] = []
        scope = self.scope | {name: kernel.recorder(calls) for name, kernel in self.kernels.items()}
        outputs = FunctionType(self.code, scope)(self.runner, list(inputs))
        addresses = {tensor.data_ptr() for tensor in (*inputs, *outputs) if tensor.numel()}
        distinct = len(addresses) == sum(tensor.numel() > 0 for tensor in (*inputs, *outputs))
        plain = all(tensor.is_contiguous() and tensor.numel() for tensor in outputs)
        alike = [tensor.shape for tensor in outputs] == carried
        if not distinct or not plain or not alike or any(len(call.arguments) > MOST for call in calls):
            return None
        if self.work is None:
            return GpuPlan(calls, inputs, outputs)
        return Plan(calls, inputs, outputs, self.work.threads(inputs))
