"""One time step of a module as a graph of tensor operators, with its derivative, for any batch.

The module's Python runs here, and nowhere else in the compiled loop. It runs on tensors without values, with autograd
as in an ordinary step, so that hooks, functions with a derivative of their own, views and writes in place mean what
they always mean. What the step and autograd have done is then written as a graph without writes, by
torch.func.functionalize.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from ..purity.watching import TRUSTED_OPERATORS, operators_unseen
from ..tools.errors import NotCompilable
from ..torch_private import Sizes, traced, tree_flatten, without_saved_tensor_hooks
from .graph_passes import inputs_of, is_write, merge_equal, remove_detached, round_made


class SizeSpecialised(Exception):
    """A trace holds for one set of sizes only, such as one batch size."""


class Layout(NamedTuple):
    """Shape, dtype and device of a tensor; a size of -1 - i stands for the i-th free size."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor, batch: tuple[int, ...] = ()) -> Layout:
        """That of a tensor, whose leading sizes are free if they are the `batch`."""
        n = len(batch) if tuple(tensor.shape[: len(batch)]) == batch else 0
        return cls((*range(-1, -1 - n, -1), *tensor.shape[n:]), tensor.dtype, tensor.device)

    def concrete(self, sizes: Sequence[Any]) -> list[Any]:
        """The shape for these free sizes."""
        return [sizes[-1 - n] if n < 0 else n for n in self.shape]

    def nbytes(self, sizes: Sequence[int]) -> int:
        """Memory for these free sizes."""
        return math.prod(self.concrete(sizes)) * self.dtype.itemsize

    def empty(self, sizes: Sequence[Any], *lead: int) -> Tensor:
        """A tensor without values, with the sizes `lead` in front."""
        return torch.empty((*lead, *self.concrete(sizes)), dtype=self.dtype, device=self.device)


class Signature(NamedTuple):
    """What a step is given.

    Attributes:
        states, constants, xs: layouts; constants are all parameters and buffers that are no states.
        sizes: example values of the free sizes.
        learned: which constants have a gradient; None for a call without gradients.
        wanted: which xs have one.
    """

    states: tuple[Layout, ...]
    constants: tuple[Layout, ...]
    xs: tuple[Layout, ...]
    sizes: tuple[int, ...]
    learned: tuple[int, ...] | None = None
    wanted: tuple[int, ...] = ()

    @property
    def inputs(self) -> tuple[Layout, ...]:
        """All layouts, in the order of a step's arguments."""
        return (*self.states, *self.constants, *self.xs)

    @property
    def sources(self) -> list[int]:
        """Which inputs have a gradient: states first, then learned constants, then wanted xs."""
        if self.learned is None:
            return []
        n, m = len(self.states), len(self.states) + len(self.constants)
        places = [*range(n), *(n + i for i in self.learned), *(m + i for i in self.wanted)]
        return [i for i in places if self.inputs[i].dtype.is_floating_point]


class TracedStep(NamedTuple):
    """A step as a graph: ``(states, constants, xs, gradients) -> (outs, new states, gradients)``.

    Attributes:
        graph: without writes. Its inputs are states, constants and xs, and a gradient for each of the `differentiable`
            results. Its outputs are outs and new states, and a gradient, or None, for each source of the signature.
        outs: layouts.
        output_spec: how the module arranges its outs.
        differentiable: which results, outs first and then new states, have a gradient.
        free: the free sizes, as symbols.
    """

    graph: fx.Graph
    signature: Signature
    outs: tuple[Layout, ...]
    output_spec: Any
    differentiable: tuple[int, ...]
    free: Sizes

    def layout_of(self, value: Tensor) -> Layout:
        """That of a traced value; see `_layout`."""
        return _layout(value, self.free)


#: A step of a module as a pure function: from states, constants and xs to the output and the new states.
Step = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], tuple[Any, Sequence[Tensor]]]


def trace_step(
    step: Step, signature: Signature, names: Sequence[str], watching: contextlib.AbstractContextManager[Any]
) -> TracedStep:
    """Run `step` on tensors without values, and note what it and autograd do.

    Args:
        names: of states, constants and xs, for messages.
        watching: entered while `step` runs.

    Raises:
        NotCompilable: it draws random numbers, writes to an argument, or returns something that is no tensor.
        SizeSpecialised: it does different things for different free sizes.
    """
    free = Sizes(signature.sizes)
    n, m = len(signature.states), len(signature.states) + len(signature.constants)
    with watching, free.mode, without_saved_tensor_hooks():
        inputs = [layout.empty(free.sizes) for layout in signature.inputs]
        spec: Any = None

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            nonlocal spec
            y, new = step(tensors[:n], tensors[n:m], tensors[m:])
            outs, spec = tree_flatten(y)
            if bad := [out for out in outs if not isinstance(out, Tensor)]:
                raise NotCompilable(f"it returns {bad[0]!r}, a {type(bad[0]).__name__}, where a tensor is wanted")
            return [*outs, *new]

        def attached(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            leaves = [tensor.detach() for tensor in tensors]
            sources = [leaves[i].requires_grad_() for i in signature.sources]
            return run(leaves), sources

        def forward(*tensors: Tensor) -> list[Tensor]:
            with torch.no_grad(), operators_unseen():
                return run(tensors)

        def joint(*tensors: Tensor) -> list[Tensor | None]:
            with torch.enable_grad(), operators_unseen():
                results, sources = attached(tensors[: len(signature.inputs)])
                pulled = [results[i] for i in differentiable]
                grads = torch.autograd.grad(pulled, sources, tensors[-len(pulled) :], allow_unused=True)
            return [*(result.detach() for result in results), *grads]

        differentiable: tuple[int, ...] = ()
        if signature.learned is not None:
            with torch.enable_grad(), operators_unseen():
                results, _ = attached(inputs)
            differentiable = tuple([i for i, result in enumerate(results) if result.requires_grad])
        if differentiable:
            inputs += [torch.empty_like(results[i]) for i in differentiable]
        found = traced(joint if differentiable else forward, inputs, decompose=False)
    with free.mode, without_saved_tensor_hooks():
        graph = functional_graph(found, inputs, names)
    results = _outputs(graph)[: len(_outputs(graph)) - len(signature.sources) * bool(differentiable)]
    if not differentiable:  # all gradients are None
        _set_outputs(graph, [*results, *[None] * len(signature.sources)])
    layouts = [_layout(node.meta["val"], free) for node in results]
    if signature.sizes and not free.are_free():
        raise SizeSpecialised
    outs, new = layouts[: len(layouts) - n], layouts[len(layouts) - n :]
    for name, before, after in zip(names, signature.states, new, strict=False):
        if before != after:
            raise NotCompilable(f"its new state {name} has the layout {after}, where the old one has {before}")
    return TracedStep(graph, signature, tuple(outs), spec, differentiable, free)


def functional_graph(first: fx.GraphModule, inputs: list[Tensor], names: Sequence[str]) -> fx.Graph:
    """A graph in the operators that Inductor compiles, without writes.

    Args:
        names: of the inputs, for messages.

    Raises:
        NotCompilable: it draws random numbers, writes to an input, or holds a tensor that is none.
    """
    for node in first.graph.nodes:
        if getattr(node.target, "namespace", "aten") not in TRUSTED_OPERATORS:
            raise NotCompilable(f"its step calls the operator {node.target}, whose effects cannot be seen")
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and _drops(node):
            raise NotCompilable(
                f"its step draws random numbers ({node.target}), and a compiled step would draw others; "
                "draw them before the loop and pass them as inputs"
            )
    graph = traced(torch.func.functionalize(first), inputs, decompose=True).graph
    for node in graph.nodes:
        if node.op == "get_attr":
            raise NotCompilable(
                f"its step makes a tensor from Python numbers ({node.target}) or reads one that is no parameter and no "
                "buffer; register it with register_buffer"
            )
        if is_write(node):
            place = inputs_of(graph).index(node.args[0]) if node.args[0].op == "placeholder" else -1
            name = names[place] if 0 <= place < len(names) else "a tensor"
            raise NotCompilable(f"its step writes to {name} in place")
    remove_detached(graph)
    round_made(graph)
    merge_equal(graph)
    return graph


def why_untraceable(error: Exception) -> str:
    """What a trace has raised, as a reason."""
    text = str(error)
    if "FakeTensor" in text and "allow_non_fake_inputs" in text:
        return "it uses a tensor that is neither a parameter nor a buffer; register it with register_buffer"
    first = text.strip().splitlines()[:1]
    return f"it cannot be traced ({type(error).__name__}: {first[0] if first else ''})"


def _drops(node: fx.Node) -> bool:
    """Whether a random operator draws: attention does not without dropout."""
    for i, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name == "dropout_p":
            value = node.args[i] if i < len(node.args) else node.kwargs.get("dropout_p", argument.default_value)
            return bool(value != 0)
    return True


def _outputs(graph: fx.Graph) -> list[Any]:
    return list(graph.output_node().args[0])  # type: ignore[arg-type]


def _set_outputs(graph: fx.Graph, outputs: list[Any]) -> None:
    graph.output_node().args = (outputs,)


def _layout(value: Tensor, free: Sizes) -> Layout:
    """That of a traced value.

    Raises:
        SizeSpecialised: it has a size that is an expression of the free ones.
    """
    shape = []
    for size in value.shape:
        number = None if isinstance(size, int) else free.number_of(size)
        if number is None and not isinstance(size, int):
            raise SizeSpecialised
        shape.append(int(size) if number is None else -1 - number)
    return Layout(tuple(shape), value.dtype, value.device)
