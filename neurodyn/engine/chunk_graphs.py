"""The graph of a chunk: several time steps in a row, forward or backward, put together from copies of one traced step.

A chunk returns nothing. It reads some of its arguments and writes its results to others, so that a sequence needs no
memory besides its own tensors, and a chunk can be called by addresses alone. places.py declares these arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx

from .graph_passes import add, add_before_summing, inputs_of, merge_equal, must_stay
from .places import BACKWARD, FORWARD, Place
from .product_passes import PRODUCTS, speed_up_products
from .tracing import Layout, TracedStep
from .weight_passes import change_in_place

aten = torch.ops.aten


class ChunkGraph:
    """A graph with its inputs by group.

    Args:
        step: what it consists of.
        steps: how many.
        declaration: `FORWARD` or `BACKWARD`.
        layouts: of the tensors in each group, without time.

    Attributes:
        rings: the states that may come out in the memory in which they go in.
    """

    def __init__(
        self, step: TracedStep, steps: int, declaration: Mapping[str, Place], layouts: Mapping[str, Sequence[Layout]]
    ):
        self.step, self.steps, self.graph = step, steps, fx.Graph()
        self.groups: dict[str, list[fx.Node]] = {}
        sizes = step.free.sizes
        with step.free.mode:
            for group, place in declaration.items():
                lead, times = ((steps,), 1) if place is Place.STEPS else ((), steps if place is Place.EACH_STEP else 1)
                tensors = [layout.empty(sizes, *lead) for _ in range(times) for layout in layouts.get(group, ())]
                self.groups[group] = [self._input(f"{group}_{i}", tensor) for i, tensor in enumerate(tensors)]
        self.sizes = [self._size(size) for size in sizes]

    def _input(self, name: str, value: Tensor) -> fx.Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = value
        return node

    def _size(self, size: object) -> fx.Node:
        """A free size as a node, read from an input: from torch 2.14 on Inductor knows symbols by such nodes."""
        for node in inputs_of(self.graph):
            for dim, other in enumerate(node.meta["val"].shape):
                if not isinstance(other, int) and other.node.expr == size.node.expr:  # type: ignore[attr-defined]
                    return add(self.graph, aten.sym_size.int, (node, dim), size)
        raise ValueError(f"no input has the size {size}")

    def each(self, group: str, k: int) -> list[fx.Node]:
        """The arguments of a group for the k-th step."""
        nodes = self.groups[group]
        n = len(nodes) // self.steps
        return nodes[k * n : (k + 1) * n]

    def select(self, node: fx.Node, k: int) -> fx.Node:
        """The k-th step of an argument with time in front."""
        return add(self.graph, aten.select.int, (node, 0, k), node.meta["val"][k])

    def copy(self, nodes: Iterable[fx.Node], known: dict[fx.Node, fx.Node]) -> None:
        """Copy nodes of the step, whose inputs are `known`, to which the copies are added."""
        for node in nodes:
            if node in known:
                continue
            if node.target is aten.sym_size.int and (i := self._free_size(node)) is not None:
                known[node] = self.sizes[i]
            else:
                known[node] = self.graph.node_copy(node, known.__getitem__)

    def _free_size(self, node: fx.Node) -> int | None:
        size = node.meta["val"]
        return None if isinstance(size, int) else self.step.free.number_of(size)

    def write(self, targets: Iterable[fx.Node], values: Iterable[fx.Node]) -> None:
        """Write values to arguments."""
        for target, value in zip(targets, values, strict=True):
            add(self.graph, aten.copy_.default, (target, value), target.meta["val"])

    def finished(self) -> ChunkGraph:
        """The graph without work done twice."""
        self.graph.output(())
        self.graph.eliminate_dead_code(must_stay)
        merge_equal(self.graph)
        add_before_summing(self.graph)
        speed_up_products(self.graph, self.groups["constants"])
        self.graph.eliminate_dead_code(must_stay)
        rings = change_in_place(self.graph)
        self.rings = [i for i, node in enumerate(self.groups.get("new_states", ())) if node in rings]
        self.graph.lint()
        return self


class StepParts:
    """The nodes of a traced step, sorted by what a chunk needs them for.

    Attributes:
        outs, new_states: what the step computes.
        forward: the nodes for these, in order.
        backward: the nodes that depend on gradients.
        products: matrix products of what differs from step to step. The forward pass keeps them for the backward pass,
            which needs them, and does not compute them again.
    """

    def __init__(self, step: TracedStep):
        self.step = step
        n, m, x = len(step.signature.states), len(step.signature.constants), len(step.signature.xs)
        inputs = inputs_of(step.graph)
        self.states, self.constants = inputs[:n], inputs[n : n + m]
        self.xs, self.grads = inputs[n + m : n + m + x], inputs[n + m + x :]
        results: list[fx.Node] = list(step.graph.output_node().args[0])  # type: ignore[arg-type]
        k = len(step.outs)
        self.outs, self.new_states, self.pulled = results[:k], results[k : k + n], results[k + n :]
        later = _computed_from(step.graph, self.grads)
        self.backward = [node for node in later if node.op == "call_function"]
        self.forward = _needed_for([*self.outs, *self.new_states], step.graph)
        read = {source for node in self.backward for source in node.all_input_nodes if source not in later}
        self.recomputed = _needed_for([*read, *self.new_states], step.graph)
        varying = set(_computed_from(step.graph, [*self.states, *self.xs]))
        self.products = [node for node in self.recomputed if node.target in PRODUCTS and node in varying]

    def reached(self, results: Collection[int], T: int) -> list[bool]:
        """For each source, whether its gradient comes from these results of T steps: outs of any, and final states."""
        n, floating = len(self.outs), floating_states(self.step.signature.states)
        grads = dict(zip(self.step.differentiable, self.grads, strict=True))
        independent = {*self.pulled} - {*_computed_from(self.step.graph, self.grads)}
        outs, carried = [{grads[i] for i in results if (i < n) is out and i in grads} for out in (True, False)]
        reached, last = [False] * len(self.pulled), len(floating)
        for _ in range(T):  # backward
            found = _computed_from(self.step.graph, outs | carried).keys() | independent
            of_step = [node is not None and node in found for node in self.pulled]
            # Of initial states only the first step's gradient counts, of other sources that of any step.
            reached = [*of_step[:last], *(a or b for a, b in zip(reached[last:], of_step[last:], strict=True))]
            read = [n + i for i, is_read in zip(floating, of_step, strict=False) if is_read]
            following = {grads[i] for i in read if i in grads}
            if following == carried:
                break
            carried = following
        return reached


def _computed_from(graph: fx.Graph, sources: Iterable[fx.Node]) -> dict[fx.Node, None]:
    """The sources, and the nodes that depend on them, in order."""
    found = dict.fromkeys(sources)
    for node in graph.nodes:
        if node.op == "call_function" and any(source in found for source in node.all_input_nodes):
            found[node] = None
    return found


def _needed_for(results: Iterable[fx.Node], graph: fx.Graph) -> list[fx.Node]:
    """The nodes that some results are computed from, in order."""
    needed = set(results)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed and node.op == "call_function"]


def forward_graph(parts: StepParts, steps: int, products: Sequence[Layout]) -> ChunkGraph:
    """The outs of some steps, the states after them, and their `products` if a backward pass needs them."""
    step = parts.step
    layouts = step.signature._asdict() | {"new_states": step.signature.states, "outs": step.outs, "products": products}
    chunk = ChunkGraph(step, steps, FORWARD, layouts)
    states = chunk.groups["states"]
    for k in range(steps):
        known = _given(parts, chunk, states, k)
        chunk.copy(parts.forward, known)
        chunk.write(chunk.each("outs", k), [known[node] for node in parts.outs])
        if products:
            chunk.copy(parts.products, known)
            chunk.write(chunk.each("products", k), [known[node] for node in parts.products])
        states = [known[node] for node in parts.new_states]
    chunk.write(chunk.groups["new_states"], states)
    return chunk.finished()


def backward_graph(parts: StepParts, steps: int, products: Sequence[Layout]) -> ChunkGraph:
    """The gradients of some steps, which are computed again from the states before them, with kept `products`."""
    step, signature = parts.step, parts.step.signature
    floating = floating_states(signature.states)
    layouts = signature._asdict() | {
        "products": products,
        "grad_new_states": [signature.states[i] for i in floating],
        "grad_outs": [step.outs[i] for i in step.differentiable if i < len(step.outs)],
        "grad_states": [signature.states[i] for i in floating],
        "grad_xs": [signature.xs[i] for i in signature.wanted],
        "sums": [signature.constants[i] for i in signature.learned or ()],
    }
    chunk = ChunkGraph(step, steps, BACKWARD, layouts)
    states, each_step = chunk.groups["states"], []
    for k in range(steps):
        known = _given(parts, chunk, states, k)
        known |= dict(zip(parts.products, chunk.each("products", k), strict=True)) if products else {}
        chunk.copy(parts.recomputed, known)
        states = [known[node] for node in parts.new_states]
        each_step.append(known)
    of_states: list[fx.Node | None] = [None] * len(signature.states)
    for i, node in zip(floating, chunk.groups["grad_new_states"], strict=True):
        of_states[i] = node
    totals: list[fx.Node | None] = [None] * len(layouts["sums"])
    for k in reversed(range(steps)):
        known, of_outs = each_step[k], iter(chunk.groups["grad_outs"])
        for i, node in zip(step.differentiable, parts.grads, strict=True):
            if i < len(step.outs):
                known[node] = chunk.select(next(of_outs), k)
            else:
                known[node] = of_states[i - len(step.outs)]  # type: ignore[assignment]
        chunk.copy(parts.backward, known)
        pulled = iter([None if node is None else known[node] for node in parts.pulled])
        for i in floating:
            of_states[i] = next(pulled) or _zeros(chunk, signature.states[i], states[i])
        for i in range(len(totals)):
            grad = next(pulled)
            total = totals[i]
            totals[i] = grad if total is None else _sum(chunk, total, grad)  # type: ignore[arg-type]
        of_xs = [
            next(pulled) or _zeros(chunk, signature.xs[i], x)
            for i, x in zip(signature.wanted, chunk.each("grad_xs", k), strict=True)
        ]
        chunk.write(chunk.each("grad_xs", k), of_xs)
    chunk.write(chunk.groups["grad_states"], [of_states[i] for i in floating])  # type: ignore[misc]
    for target, total in zip(chunk.groups["sums"], totals, strict=True):
        if total is not None:
            chunk.write([target], [_sum(chunk, target, total)])
    return chunk.finished()


def floating_states(states: Sequence[Layout]) -> list[int]:
    """Which states can have a gradient."""
    return [i for i, layout in enumerate(states) if layout.dtype.is_floating_point]


def _given(parts: StepParts, chunk: ChunkGraph, states: Sequence[fx.Node], k: int) -> dict[fx.Node, fx.Node]:
    """The inputs of the k-th step."""
    xs = [chunk.select(x, k) for x in chunk.groups["xs"]]
    sources, targets = (*parts.states, *parts.constants, *parts.xs), (*states, *chunk.groups["constants"], *xs)
    return dict(zip(sources, targets, strict=True))


def _sum(chunk: ChunkGraph, a: fx.Node, b: fx.Node) -> fx.Node:
    return add(chunk.graph, aten.add.Tensor, (a, b), a.meta["val"])


def _zeros(chunk: ChunkGraph, layout: Layout, like: fx.Node) -> fx.Node:
    """Zeros of this layout, which is that of `like`; Inductor does not write full_like and its kind."""
    made = {"dtype": layout.dtype, "device": layout.device}
    return add(chunk.graph, aten.full.default, (layout.concrete(chunk.sizes), 0), like.meta["val"], **made)
