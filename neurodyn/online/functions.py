"""What a learner does in a step, as a compiled function of tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.states import constants, held_states, same_tensors
from ..engine.compiled_chunk import COMPILING, compiled_graph
from ..engine.graph_passes import inputs_of
from ..engine.kernel_loop import limited_threads
from ..engine.threads import Work
from ..engine.time_loop import plain
from ..engine.tracing import Layout, functional_graph, why_untraceable
from ..purity.snapshot import Snapshot
from ..purity.watching import Watching, operators_unseen
from ..tools.errors import NotCompilable
from ..tools.progress import compiling
from ..torch_private import (
    Sizes,
    below_autograd,
    load_compiler,
    traced,
    tree_flatten,
    tree_unflatten,
    without_saved_tensor_hooks,
)
from .local import Step

if TYPE_CHECKING:
    from .learner import Learner


class Function(NamedTuple):
    """From a list of tensors to some others.

    Attributes:
        used: which of the tensors it reads.
        reads: the global variables that its trace has read.
    """

    call: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    used: frozenset[int]
    reads: Snapshot


class Forward(NamedTuple):
    """A step: from what it reads to outputs, states and memory of the rule after it, and what has to be zero.

    Attributes:
        spec: how the network arranges its outputs.
        attached: for each output whether it has a gradient.
        memory: the keys of each dict of the rule.
    """

    function: Function
    spec: Any
    attached: list[bool]
    memory: list[list[Any]]


class Backward(NamedTuple):
    """The backward pass of a step: from what it has read, and gradients by outputs, to those by parameters.

    Attributes:
        places: where the parameters stand in what it has read.
    """

    function: Function
    places: list[int]


class _Around(nn.Module):
    """Calls a function, so that `functional_call` puts tensors into `net` meanwhile."""

    def __init__(self, net: nn.Module, function: Callable[[], Any]):
        super().__init__()
        self.net, self.function = net, function

    def forward(self) -> Any:
        return self.function()


def read_by(learner: Learner) -> list[Tensor]:
    """What a step of a learner reads besides the tensors of its network and the inputs."""
    names = (*learner.memory, *learner.read)
    return [value for name in names for value in getattr(learner, name).values()]


def forward_function(learner: Learner, tensors: Sequence[Tensor], inputs: Any) -> Forward:
    """A step as a function of `tensors`: constants and states of the network, what `read_by` gives, and inputs.

    Raises:
        NotCompilable: with the reason.
    """
    spec, attached, memory = None, [], []

    def results(step: Step, _: Any, grads: Any) -> list[Tensor]:
        nonlocal spec, attached, memory
        spec, attached = tree_flatten(step.y)[1], [value.requires_grad for value in step.given]
        memory = [list(values) for values in step.memory]
        return [*step.results, *(learner.differences or ())]

    return Forward(_function(learner, tensors, inputs, (), results), spec, attached, memory)


def backward_function(
    learner: Learner, tensors: Sequence[Tensor], inputs: Any, asked: Sequence[bool], grads: Sequence[Tensor]
) -> Backward:
    """The backward pass of a step, which it computes again.

    Args:
        asked: for each output whether it has one of the `grads`.

    Raises:
        NotCompilable: with the reason.
    """
    places: list[int] = []

    def results(step: Step, leaves: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
        nonlocal places
        for value, grad in zip(itertools.compress(step.given, asked), grads, strict=True):
            value.grad = grad
        learner.pull(step)
        places = [i for i, value in enumerate(leaves) if value.requires_grad and value.grad is not None]
        return [leaves[i].grad.clone() for i in places]  # type: ignore[union-attr]

    return Backward(_function(learner, tensors, inputs, grads, results), places)


def _function(
    learner: Learner,
    tensors: Sequence[Tensor],
    inputs: Any,
    grads: Sequence[Tensor],
    results: Callable[[Step, Sequence[Tensor], Sequence[Tensor]], list[Tensor]],
) -> Function:
    """`results` of a step, as a function of the `tensors` that it reads and of `grads`."""
    net, names, states = learner.net, list(constants(learner.net)), list(held_states(learner.net))
    attributes = dict(vars(learner))
    flat, spec = tree_flatten(inputs)
    n = len(tensors)

    def function(*given: Tensor) -> list[Tensor]:
        leaves = [x.detach().requires_grad_(t.requires_grad) for x, t in zip(given[:n], tensors, strict=True)]
        parts = iter(leaves)
        fixed = {f"net.{name}": next(parts) for name in names}
        before = {name: next(parts) for name in states}
        rule = {name: {key: next(parts) for key in attributes[name]} for name in (*learner.memory, *learner.read)}
        x = tree_unflatten([next(parts) for _ in flat], spec)

        def inside() -> list[Tensor]:
            return results(learner.plain_step(before, x), leaves, given[n:])

        vars(learner).update(rule, differences=[])
        try:
            with same_tensors(net), operators_unseen():
                return functional_call(_Around(net, inside), fixed, ())
        finally:
            vars(learner).clear()
            vars(learner).update(attributes)

    watching = Watching(net)
    try:
        with COMPILING, compiling(), without_saved_tensor_hooks(), torch.inference_mode(False), torch.enable_grad():
            load_compiler()
            free, layouts = Sizes(()), [Layout.of(tensor) for tensor in (*tensors, *grads)]
            with watching, free.mode:
                fakes = [layout.empty(()) for layout in layouts]
                first = traced(function, fakes, decompose=False)
            with free.mode:
                graph = functional_graph(first, fakes, [f"tensor {i}" for i in range(len(fakes))])
                graph.eliminate_dead_code()
            nodes = inputs_of(graph)
            call = compiled_graph(graph, [node.meta["val"] for node in nodes], free.mode)
            threads = Work(graph, ()).threads(())
    except NotCompilable:
        raise
    except Exception as error:
        raise NotCompilable(why_untraceable(error)) from error

    def run(given: Sequence[Tensor]) -> Sequence[Tensor]:
        with limited_threads(threads), below_autograd(), torch.no_grad():
            return call(plain([value.detach() for value in given]))

    return Function(run, frozenset([i for i, node in enumerate(nodes) if node.users]), watching.reads)
