"""A `Program` is a module's chunk of K time steps: traced once as a pure function, compiled by Inductor.

The forward chunk takes states, constants (parameters and buffers) and K inputs; it writes K outputs and returns the new
states. The backward chunk starts from the same states, recomputes the K steps and pulls the gradients back through
them; it writes the gradient of the inputs and adds to the gradients of the parameters.

Batch dimensions are symbols in the trace, so every batch size runs the same code, and T never enters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ..solve import without_saved_tensor_hooks
from ..states import constants, get_states, pure, same_tensors
from . import products
from .chunk import TRACING, Pending
from .errors import BatchSpecialised, NotCompilable
from .opened import Opened
from .share import Share
from .store import FEW, Initial, Store
from .trace import Inputs, Layout, refuse_impure, trace

#: (nodes in the traced graph of one step, steps in a chunk): shorter chunks for larger steps bound the compile time.
CHUNK = ((70, 8), (95, 4), (250, 2))


class Program:
    """The compiled chunks of one kind of module for one layout of its inputs.

    Args:
        net: a module of this kind, its states set.
        x, spec: the inputs of one step, as tensors and the pytree of arguments that they came from.
        batch: the leading sizes that may vary from call to call; empty to compile for the shapes at hand alone.
        opened: the sizes of constants that may vary as well.

    Raises:
        NotCompilable: the step draws random numbers or writes to a buffer.
        BatchSpecialised: the step does different things for different free sizes.
    """

    def __init__(
        self, net: nn.Module, x: Sequence[Tensor], spec: pytree.TreeSpec, batch: tuple[int, ...], opened: Opened
    ):
        states, constant = get_states(net), constants(net)
        self.spec, self.batch = spec, batch
        self.free = (*batch, *dict(opened.values()).values())
        self.state_names, self.constant_names = list(states), list(constant)
        self.learned = [i for i, value in enumerate(constant.values()) if value.requires_grad]
        self.states = [Layout.of(value, batch) for value in states.values()]
        self.constants = [Layout.of(value) for value in constant.values()]
        for i, name in enumerate(constant):
            if name in opened:  # a free size after those of the batch
                shape = (-1 - len(batch) - opened[name][0], *self.constants[i].shape[1:])
                self.constants[i] = self.constants[i]._replace(shape=shape)
        self.xs = [Layout.of(value, batch) for value in x]
        led = any(layout.shape[: len(batch)] == tuple(range(-1, -1 - len(batch), -1)) for layout in self.xs)
        initial = Initial.of(net, list(constant.values()), self.constants)
        self.initial = initial if led else None  # else the batch is not that of an input
        self.output_spec: Any = None
        self.open = [i for i, layout in enumerate(self.constants) if layout.shape and layout.shape[0] < 0]
        self.sequences: dict[Any, Any] = {}  # the `Chunks` for sequences, by what they depend on
        self._stores: dict[tuple[int, ...], Store] = {}
        self._zeros: dict[tuple[int, ...], list[Tensor]] = {}
        self._compiled: dict[Any, Pending] = {}
        self._failure: str | None = None

        def probe(states, constant, xs):
            new, outs, self.output_spec = self._loop(net, states, constant, [xs])
            return [*new, *outs[0]]

        graph, _, symbols = trace(probe, self.free, _plain(self.states), _plain(self.constants), _plain(self.xs))
        refuse_impure(graph)
        symbols = symbols[: len(batch)]
        self.outs = [Layout.traced(value, symbols) for value in _outputs(graph)[len(states) :]]
        n, m = len(states), len(states) + len(constant)
        self.varying = (*range(n), *range(m, m + len(self.xs)))
        try:
            found = products.products(graph.graph, self.varying)
            self.products = [Layout.traced(node.meta["val"], symbols) for node in found]
            self.kinds = [node.target for node in found]
        except BatchSpecialised:  # of sizes that are no batch dimensions
            self.products, self.kinds = [], []
        self.steps = next((steps for limit, steps in CHUNK if len(graph.graph.nodes) <= limit), 1)

    def sizes(self, states: Sequence[Tensor], constants: Sequence[Tensor]) -> tuple[int, ...]:
        """The free sizes of these tensors."""
        return (*states[0].shape[: len(self.batch)], *[constants[i].shape[0] for i in self.open])

    def store(self, used: Iterable[int]) -> Store:
        """For what depends on these constants alone."""
        places = tuple(sorted(used))
        return self._stores.setdefault(places, Store(places, self.constants))

    def zeros(self, batch: tuple[int, ...]) -> list[Tensor]:
        """Gradients of final states that nobody asks for, not to be written to; small ones on the CPU are kept."""
        if (zeros := self._zeros.get(batch)) is None:
            zeros = [layout.empty(batch).zero_() for layout in self.states]
            if all(value.is_cpu for value in zeros) and sum(value.nbytes for value in zeros) <= FEW:
                self._zeros = {batch: zeros}  # of the last batch
        return zeros

    def forward(self, net: nn.Module, steps: int, keep: bool = False) -> Pending:
        """``[*states, *constants, *xs, *outs, *kept] -> states``, writing the outs of each step in turn.

        With `keep` it also writes the matrix products of each step in turn.
        """

        def chunk(states, constant, xs, outs, kept):
            with torch.no_grad():
                states, values, _ = self._loop(net, states, constant, _steps(xs))
            _write(outs, values)
            return states

        inputs = _plain(self.states), _plain(self.constants), _timed(self.xs, steps), steps * _plain(self.outs)
        kept = steps * _plain(self.products) if keep else []
        return self._compile(("forward", steps, keep), chunk, *inputs, kept, edit=products.keep)

    def backward(self, net: nn.Module, steps: int, wanted: tuple[bool, ...], keep: bool = False) -> Pending:
        """``[*states, *constants, *xs, *grad_states, *grad_outs, *grad_xs, *sums, *kept] -> grad_states``.

        Writes the gradients of those xs that are `wanted`, of each step in turn, and adds to the sums of the
        parameters' gradients. With `keep` it takes the matrix products of the forward pass.
        """

        def chunk(states, constant, xs, grad_states, grad_outs, grad_xs, sums, kept):
            def run(states, learned, selected):
                values = list(constant)
                for index, value in zip(self.learned, learned, strict=True):
                    values[index] = value
                mixed = [_merge(x, chosen, wanted) for x, chosen in zip(_steps(xs), selected, strict=True)]
                return self._loop(net, states, values, mixed)[:2]

            selected = [[x for x, want in zip(step, wanted, strict=True) if want] for step in _steps(xs)]
            _, pull, *_ = torch.func.vjp(run, list(states), [constant[i] for i in self.learned], selected)
            grad_start, grad_learned, grads = pull((list(grad_states), _steps(grad_outs)))
            totals = [total + grad for total, grad in zip(sums, grad_learned, strict=True)]
            _write([*grad_xs, *sums], [*grads, totals])
            return grad_start

        states, fixed = _plain(self.states), _plain(self.constants)
        xs, outs = _timed(self.xs, steps), _timed(self.outs, steps)
        grad_xs = steps * [x for x, want in zip(_plain(self.xs), wanted, strict=True) if want]
        inputs = states, fixed, xs, states, outs, grad_xs, [fixed[i] for i in self.learned]
        kept = steps * _plain(self.products) if keep else []
        reuse = functools.partial(products.reuse, kinds=steps * self.kinds)
        return self._compile(("backward", steps, wanted, keep), chunk, *inputs, kept, edit=reuse)

    def _loop(self, net: nn.Module, states: Sequence[Tensor], constant: Sequence[Tensor], xs: Sequence[Any]) -> Any:
        """Steps of the pure function of `net`: the new states, the outputs of each step, the pytree of one output."""
        fixed, outs, spec = dict(zip(self.constant_names, constant, strict=True)), [], None
        with Share(constant), same_tensors(net):
            for x in xs:
                tensors = fixed | dict(zip(self.state_names, states, strict=True))
                y, new = pure(net, tensors, *pytree.tree_unflatten(list(x), self.spec))
                states = [new[name] for name in self.state_names]
                leaves, spec = pytree.tree_flatten(y)
                outs.append(leaves)
        return list(states), outs, spec

    def _compile(self, key: Any, chunk: Callable, *inputs: Inputs, edit: Any) -> Pending:
        if self._failure is not None:
            raise NotCompilable(self._failure)
        if key not in self._compiled:
            with TRACING, without_saved_tensor_hooks():
                if key not in self._compiled:  # another thread may have been first
                    try:
                        self._compiled[key] = self._pending(chunk, *inputs, edit=edit)
                    except NotCompilable as reason:
                        self._failure = str(reason)
                        raise
        return self._compiled[key]

    def _pending(self, chunk: Callable, *inputs: Inputs, edit: Any) -> Pending:
        graph, fakes, _ = trace(chunk, self.free, *inputs)
        if kept := len(inputs[-1]):
            edit(graph.graph, self.varying, range(len(fakes) - kept, len(fakes)))
        fixed = range(len(self.states), len(self.states) + len(self.constants))
        products.large(graph.graph, fixed)
        return Pending(graph, fakes, fixed)


def _plain(layouts: list[Layout]) -> list[tuple[Layout, tuple[int, ...]]]:
    return [(layout, ()) for layout in layouts]


def _timed(layouts: list[Layout], steps: int) -> list[tuple[Layout, tuple[int, ...]]]:
    return [(layout, (steps,)) for layout in layouts]


def _steps(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors with time in front as a row of tensors for each step."""
    return [list(row) for row in zip(*(tensor.unbind(0) for tensor in tensors), strict=True)]


def _merge(x: Sequence[Tensor], chosen: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    """`x` with the `wanted` ones replaced."""
    given = iter(chosen)
    return [next(given) if want else value for value, want in zip(x, wanted, strict=True)]


def _write(outs: Sequence[Tensor], rows: Sequence[Sequence[Tensor]]) -> None:
    for out, value in zip(outs, [value for row in rows for value in row], strict=True):
        out.copy_(value)


def _outputs(graph: GraphModule) -> list[Tensor]:
    return [node.meta["val"] for node in graph.graph.output_node().args[0]]  # type: ignore[union-attr]
