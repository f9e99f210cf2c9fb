"""Steps of a learner that are compiled, and each compared once with the plain step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine.program_cache import flattened, program_for
from ..engine.proof import differing
from ..purity.unchanged import mark_of
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import Missing, tree_unflatten
from .functions import Backward, Forward, backward_function, forward_function, read_by
from .local import Step, leaf, results
from .maps import add_grad

if TYPE_CHECKING:
    from .learner import Learner

#: For results that are computed in another order.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3}
_COARSE = 0.1  # of half precision
_KEPT = 16  # layouts
_TRIES = 3  # after which it is not rounding that makes a spike of one and none of the other


@dataclass
class CompiledStep:
    """A step that has no graph.

    Attributes:
        y, given: what the user gets, and the leaves of autograd in it.
        states: after the step.
        memory: the dicts of the rule, after the step.
        inputs, before: of the step, and the states before it.
        tensors: what the step has read, with their marks of `mark_of`; its backward pass reads them again.
    """

    y: Any
    given: list[Tensor]
    states: dict[str, Tensor]
    memory: list[dict[Any, Tensor]]
    inputs: tuple[Any, ...]
    before: dict[str, Tensor]
    tensors: list[Tensor]
    marks: list[tuple[int, int]]

    @property
    def results(self) -> list[Tensor]:
        """All that the step gives."""
        return results(self.given, self.states, self.memory)


@dataclass
class _Functions:
    """Of one network, for tensors of certain shapes; a backward pass for each set of outputs with a gradient."""

    forward: Forward
    backward: dict[tuple[bool, ...], Backward] = field(default_factory=dict)
    proven: bool = False
    tries: int = 0


class Compiled:
    """The compiled steps of a learner, made when a step reads tensors of the same layouts as the step before.

    A step is a function of tensors where `neurodyn.unroll` finds a program for the network.
    """

    def __init__(self, learner: Learner):
        self.learner = learner
        self.found: dict[Hashable, _Functions | None] = {}
        self.last: Hashable = None

    def step(self, before: dict[str, Tensor], inputs: tuple[Any, ...]) -> Step | CompiledStep | None:
        """A step of the learner from the states `before`; None if it has to be made in Python."""
        learner, (x, spec) = self.learner, flattened(inputs)
        if not x or any([not isinstance(value, Tensor) or value.requires_grad for value in x]):
            return None
        if torch.is_autocast_enabled(x[0].device.type):
            self._say("it computes under autocast, which its backward pass would not know of")
            return None
        try:
            with torch.no_grad():
                ready = program_for(learner.net, [value.unsqueeze(0) for value in x], spec)
            tensors = [*ready.constants, *before.values(), *read_by(learner), *x]
            layouts = tuple([(t.shape, t.dtype, t.device, t.requires_grad) for t in tensors])
            key = ready.program, spec, layouts, tuple([tuple(getattr(learner, name)) for name in learner.memory])
            if key not in self.found and key == self.last:
                if len(self.found) == _KEPT:
                    self.found.clear()
                self.found[key] = None  # also if the next line raises
                self.found[key] = _Functions(forward_function(learner, tensors, inputs))
        except (NotCompilable, Missing) as reason:
            self._say(str(reason))
            return None
        self.last = key
        functions = self.found.get(key)
        return None if functions is None else self._run(functions, tensors, before, inputs)

    def _run(
        self, functions: _Functions, tensors: list[Tensor], before: dict[str, Tensor], inputs: tuple[Any, ...]
    ) -> Step | CompiledStep | None:
        forward = functions.forward
        found = iter(forward.function(tensors))
        given = [leaf(next(found)) if attached else next(found) for attached in forward.attached]
        states = {name: next(found) for name in before}
        memory = [{name: next(found) for name in names} for names in forward.memory]
        if any([bool(difference) for difference in found]):
            return None  # and the plain step says what is not as the rule needs it
        y, marks = tree_unflatten(given, forward.spec), [mark_of(tensor) for tensor in tensors]
        step = CompiledStep(y, given, states, memory, inputs, before, tensors, marks)
        return step if functions.proven else self._compared(functions, step)

    def pull(self, step: CompiledStep) -> None:
        """Add the gradients of a step from those of its outputs."""
        if [mark_of(tensor) for tensor in step.tensors] != step.marks:
            raise RuntimeError(
                f"{type(self.learner).__name__}.backward: a parameter, input or state that the step has read has other "
                "data, or was changed in place since; call backward before optimizer.step()"
            )
        functions, asked = self.found[self.last], tuple([value.grad is not None for value in step.given])
        grads = [value.grad for value in step.given if value.grad is not None]
        if functions is None or asked not in functions.backward:
            self._pull_compared(functions, step, asked, grads)
        else:
            backward = functions.backward[asked]
            for i, grad in zip(backward.places, backward.function([*step.tensors, *grads]), strict=True):
                add_grad(step.tensors[i], grad)
        for value in step.given:
            value.grad = None

    def _compared(self, functions: _Functions, step: CompiledStep) -> Step:
        """The plain step, with which the compiled one is compared."""
        wanted = self.learner.plain_step(step.before, step.inputs)
        functions.proven, functions.tries = _close(step.results, wanted.results), functions.tries + 1
        if not functions.proven and functions.tries == _TRIES:
            self._refuse("its compiled step differs from the plain one")
        return wanted

    def _pull_compared(
        self, functions: _Functions | None, step: CompiledStep, asked: tuple[bool, ...], grads: list[Tensor]
    ) -> None:
        """The backward pass of the plain step, with which the compiled one is compared."""
        learner, trained = self.learner, [tensor for tensor in step.tensors if tensor.requires_grad]
        wanted = learner.plain_step(step.before, step.inputs)
        for new, value in zip(wanted.given, step.given, strict=True):
            new.grad = value.grad
        held = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        learner.pull(wanted)
        own = [parameter.grad for parameter in trained]
        for parameter, before, grad in zip(trained, held, own, strict=True):
            parameter.grad = before
            add_grad(parameter, grad)
        if functions is None:
            return
        try:
            backward = backward_function(learner, step.tensors, step.inputs, asked, grads)
        except (NotCompilable, Missing) as reason:
            self._refuse(str(reason))
            return
        found: list[Tensor | None] = [None] * len(step.tensors)
        for i, grad in zip(backward.places, backward.function([*step.tensors, *grads]), strict=True):
            found[i] = grad
        if _close([found[i] for i, tensor in enumerate(step.tensors) if tensor.requires_grad], own):
            functions.backward[asked] = backward
        else:
            self._refuse("its compiled gradients differ from the plain ones")

    def _refuse(self, reason: str) -> None:
        self.found[self.last] = None
        self._say(reason)

    def _say(self, reason: str) -> None:
        warn_once(
            f"nd.online.{type(self.learner).__name__} steps {type(self.learner.net).__name__} in Python: {reason}"
        )


def _close(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None]) -> bool:
    """Whether two lists hold the same numbers, up to rounding."""
    for a, b in zip(found, wanted, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
        elif bool(differing(a, b, _TOLERANCE.get(b.dtype, _COARSE)).any()):
            return False
    return True
