"""Steps of a learner that are compiled, and each compared once with the plain step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..engine.program_cache import change_of, flattened, program_for
from ..engine.proof import differing
from ..purity.snapshot import Snapshot
from ..purity.unchanged import mark_of
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import has_gradient_hooks, tree_unflatten
from .functions import Backward, Forward, backward_function, forward_function, read_by
from .local import Step, leaf, results
from .maps import add_grad

if TYPE_CHECKING:
    from .learner import Learner

#: For results that are computed in another order.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3}
_COARSE = 0.1  # of half precision
_KEPT = 16  # layouts
_SEEN = 256  # of them, of which functions are made when they come again
_TRIES = 3  # after which it is not rounding that makes a spike of one and none of the other


@dataclass
class CompiledStep:
    """A step that has no graph.

    Attributes:
        y, given: what the user gets, and the leaves of autograd in it.
        states: after the step.
        memory: the dicts of the rule, after the step.
        inputs, before: of the step, as copies, and the states before it.
        tensors: what its backward pass may read again, with their marks of `mark_of`.
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
    """Of one network, for tensors of certain shapes.

    Attributes:
        reads: the global variables that they have read.
        backward: a backward pass for each set of outputs and of parameters that have gradients.
        proven: those whose results have been compared with the plain ones: None for the step.
    """

    forward: Forward
    reads: Snapshot
    backward: dict[Hashable, Backward] = field(default_factory=dict)
    proven: set[Hashable] = field(default_factory=set)
    tries: int = 0


class Compiled:
    """The compiled steps of a learner, made when a step reads tensors of the same layouts as one before.

    A step is a function of tensors where `neurodyn.unroll` finds a program for the network. A copy has none yet.
    """

    def __init__(self, learner: Learner):
        self.learner = learner
        self.found: dict[Hashable, _Functions | None] = {}
        self.seen: set[Hashable] = set()
        self.names: tuple[str, ...] = ()  # of attributes at the first call: a user may add others later
        self.last: Hashable = None

    def __reduce__(self) -> Any:  # also what copy.deepcopy asks
        return Compiled, (self.learner,)

    def step(self, before: dict[str, Tensor], inputs: tuple[Any, ...]) -> Step | CompiledStep | None:
        """A step of the learner from the states `before`; None if it has to be made in Python."""
        learner, (x, spec) = self.learner, flattened(inputs)
        if not x or any([not isinstance(value, Tensor) or value.requires_grad for value in x]):
            return None
        if torch.is_inference_mode_enabled():  # whose results have no graph
            return None
        if torch.is_autocast_enabled(x[0].device.type):
            self._say("it computes under autocast, which its backward pass would not know of")
            return None
        try:
            with torch.no_grad():
                ready = program_for(learner.net, [value.unsqueeze(0) for value in x], spec)
            tensors = [*ready.constants, *before.values(), *read_by(learner), *x]
            if _hooked(tensors):
                raise NotCompilable("a parameter has hooks, which have to be called")
            layouts = tuple([(t.shape, t.dtype, t.device, t.requires_grad) for t in tensors])
            key = self.last = ready.program, spec, layouts, self._settings()
            functions = self.found.get(key)
            if functions is not None and functions.reads.change() is not None:
                functions = self.found.pop(key)
            if key in self.seen and key not in self.found:
                if len(self.found) == _KEPT:
                    self.found.clear()
                self.found[key] = None  # also if the next line raises
                forward = forward_function(learner, tensors, inputs)
                self.found[key] = _Functions(forward, forward.function.reads)
        except NotCompilable as reason:
            self._say(str(reason))
            return None
        if len(self.seen) > _SEEN:
            self.seen.clear()
        self.seen.add(key)
        if (functions := self.found.get(key)) is None:
            return None
        x = [value.clone() for value in x]  # the backward pass reads them, and a sensor may reuse its tensors
        return self._run(functions, [*tensors[: -len(x)], *x], before, tree_unflatten(x, spec))

    def _run(
        self, functions: _Functions, tensors: list[Tensor], before: dict[str, Tensor], inputs: tuple[Any, ...]
    ) -> Step | CompiledStep | None:
        forward = functions.forward
        found = iter(forward.function.call(tensors))
        given = [leaf(next(found)) if attached else next(found) for attached in forward.attached]
        states = {name: next(found) for name in before}
        memory = [{name: next(found) for name in names} for names in forward.memory]
        if any([bool(difference) for difference in found]):
            return None  # and the plain step says what is not as the rule needs it
        y, marks = tree_unflatten(given, forward.spec), [mark_of(tensor) for tensor in tensors]
        step = CompiledStep(y, given, states, memory, inputs, before, tensors, marks)
        return step if None in functions.proven else self._compared(functions, step)

    def pull(self, step: CompiledStep) -> None:
        """Add the gradients of a step from those of its outputs."""
        asked = tuple([value.grad is not None for value in step.given])
        grads = [value.grad for value in step.given if value.grad is not None]
        functions, pattern = self.found.get(self.last), (asked, tuple([t.requires_grad for t in step.tensors]))
        self._check_same(functions)
        changed = {i for i, mark in enumerate(step.marks) if mark_of(step.tensors[i]) != mark}
        backward = None
        if functions is not None and not _hooked(step.tensors):
            backward = self._backward(functions, step, pattern, grads)
            if backward is not None:
                changed &= functions.forward.function.used | backward.function.used
        if changed:
            self._changed("a parameter, input or state that the step has read has other data, or was changed in place")
        if functions is None or backward is None:
            self.learner.pull(self._plain(step))
        else:
            found = self._gradients(backward, step, grads)
            if pattern not in functions.proven:
                found = self._compared_gradients(functions, step, pattern, found)
            for tensor, grad in zip(step.tensors, found, strict=True):
                if tensor.requires_grad:  # it may have been frozen since the step
                    add_grad(tensor, grad)
        for value in step.given:
            value.grad = None

    def _check_same(self, functions: _Functions | None) -> None:
        """See that a step computed again is the same: its graph would hold what was read, a compiled one does not.

        Raises:
            RuntimeError: something has changed since the step.
        """
        if (what := change_of(self.learner.net)) is not None:
            self._changed(f"{type(self.learner.net).__name__}{what} has changed")
        if functions is not None and (what := functions.reads.change()) is not None:
            self._changed(f"{what} has changed")
        if self.last[-1] != self._settings():  # type: ignore[index]
            self._changed("a number of the rule has changed")

    def _changed(self, what: str) -> None:
        raise RuntimeError(
            f"{type(self.learner).__name__}.backward: {what} since; call backward before that, and before "
            "optimizer.step()"
        )

    def _settings(self) -> Hashable:
        """What a rule is told besides tensors: its numbers, and the keys of its dicts, with those that it reads."""
        found, own = [], vars(self.learner)
        for name in self.names:
            value = own.get(name)
            if isinstance(value, (bool, int, float, str)):
                found.append((name, value))
            elif isinstance(value, dict) and all([isinstance(key, (int, str, tuple)) for key in value]):
                # Of tensors that the rule reads, which they are: a step holds them, so that an id stays its own.
                other = id if name in self.learner.read else lambda item: None
                items = [(k, item if isinstance(item, (int, float, str)) else other(item)) for k, item in value.items()]
                found.append((name, tuple(items)))
        return tuple(found)

    def _backward(
        self, functions: _Functions, step: CompiledStep, pattern: Any, grads: list[Tensor]
    ) -> Backward | None:
        """The compiled backward pass for outputs and parameters with gradients; None if it has to be made in Python."""
        if pattern not in functions.backward:
            try:
                made = backward_function(self.learner, step.tensors, step.inputs, pattern[0], grads)
            except NotCompilable as reason:
                self._refuse(str(reason))
                return None
            functions.backward[pattern] = made
            functions.reads.add(made.function.reads)
        return functions.backward[pattern]

    def _gradients(self, backward: Backward, step: CompiledStep, grads: list[Tensor]) -> list[Tensor | None]:
        """For each tensor that a step has read its gradient."""
        found: list[Tensor | None] = [None] * len(step.tensors)
        for i, grad in zip(backward.places, backward.function.call([*step.tensors, *grads]), strict=True):
            found[i] = grad
        return found

    def _plain(self, step: CompiledStep) -> Step:
        """The same step made in Python, with the gradients of its outputs."""
        wanted = self.learner.plain_step(step.before, step.inputs)
        for new, value in zip(wanted.given, step.given, strict=True):
            new.grad = value.grad
        return wanted

    def _compared(self, functions: _Functions, step: CompiledStep) -> Step:
        """The plain step, with which the compiled one is compared."""
        wanted = self.learner.plain_step(step.before, step.inputs)
        functions.tries += 1
        if _close(step.results, wanted.results):
            functions.proven.add(None)
        elif functions.tries == _TRIES:
            self._refuse("its compiled step differs from the plain one")
        return wanted

    def _compared_gradients(
        self, functions: _Functions, step: CompiledStep, pattern: Hashable, found: list[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradients of the plain step, with which those that were `found` are compared."""
        learner, wanted = self.learner, self._plain(step)
        trained = [tensor for tensor in step.tensors if tensor.requires_grad]
        held = [parameter.grad for parameter in trained]
        for parameter in trained:
            parameter.grad = None
        learner.pull(wanted)
        own = [tensor.grad if tensor.requires_grad else None for tensor in step.tensors]
        for parameter, before in zip(trained, held, strict=True):
            parameter.grad = before
        if _close([grad if t.requires_grad else None for t, grad in zip(step.tensors, found, strict=True)], own):
            functions.proven.add(pattern)
        else:
            self._refuse("its compiled gradients differ from the plain ones")
        return own

    def _refuse(self, reason: str) -> None:
        self.found[self.last] = None
        self._say(reason)

    def _say(self, reason: str) -> None:
        warn_once(
            f"nd.online.{type(self.learner).__name__} steps {type(self.learner.net).__name__} in Python: {reason}"
        )


def _hooked(tensors: Sequence[Tensor]) -> bool:
    """Whether hooks wait for a gradient, which only autograd calls."""
    return any([tensor.requires_grad and has_gradient_hooks(tensor) for tensor in tensors])


def _close(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None]) -> bool:
    """Whether two lists hold the same numbers, up to rounding."""
    for a, b in zip(found, wanted, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
        elif bool(differing(a, b, _TOLERANCE.get(b.dtype, _COARSE)).any()):
            return False
    return True
