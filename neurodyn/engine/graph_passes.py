"""Passes over graphs without writes. Each says what it changes, why that is sound, and what it gains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

_DETACHING = aten.detach.default, aten.alias.default
_SUMS = aten.sum.default, aten.sum.dim_IntList
_LINEAR = *_SUMS, aten.view.default, aten.neg.default


def inputs_of(graph: fx.Graph) -> list[fx.Node]:
    """The inputs of a graph, in order."""
    return [node for node in graph.nodes if node.op == "placeholder"]


def is_write(node: fx.Node) -> bool:
    """Whether a node changes one of its arguments."""
    return node.op == "call_function" and getattr(getattr(node.target, "_schema", None), "is_mutable", False)


def must_stay(node: fx.Node) -> bool:
    """Whether a node has an effect besides its value, or tells Inductor the name of a free size."""
    if node.target is aten.sym_size.int:
        return node.args[0].op == "placeholder"  # type: ignore[union-attr]
    return node.op in ("placeholder", "output") or is_write(node)


def shape_of(node: fx.Node) -> str:
    """The shape of a value, as text: to compare symbols would add to what the trace assumes."""
    return str(tuple(node.meta["val"].shape)) if isinstance(node.meta.get("val"), Tensor) else ""


def add(graph: fx.Graph, target: Any, arguments: tuple[Any, ...], value: Any, **kwargs: Any) -> fx.Node:
    """A new call in a graph, with the value that it has in the trace."""
    node = graph.call_function(target, arguments, kwargs)
    node.meta["val"] = value
    return node


def remove_detached(graph: fx.Graph) -> None:
    """Replace detached values, and copies that lie as they do, by the values themselves.

    Sound: nothing is written to, and the derivative is in the graph already. Gain: later passes see equal values.
    """
    for node in list(graph.nodes):
        if node.target in _DETACHING or (node.target is aten.clone.default and _lies_as(node, node.args[0])):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _lies_as(a: fx.Node, b: Any) -> bool:
    """Whether two values of one shape have the same strides, as text: to compare symbols would add to the trace."""
    return str(a.meta["val"].stride()) == str(b.meta["val"].stride())


def round_made(graph: fx.Graph) -> None:
    """Round the value of a constant, such as ``torch.full((4,), 1 / 3)``, to its dtype.

    Sound: it is what the operator gives. Needed: Inductor goes on with the unrounded value in a longer dtype.
    """
    for node in graph.nodes:
        if node.target is aten.full.default and isinstance(node.args[1], float):
            rounded = torch.tensor(node.args[1], dtype=node.meta["val"].dtype).item()
            node.args = (node.args[0], rounded)


def merge_equal(graph: fx.Graph) -> None:
    """Compute each expression once.

    Sound: operators are functions of their arguments (random ones are refused, and results written to only at the
    end). Gain: steps share expressions of parameters, and the derivative shares those of the step.
    """
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or is_write(node):
            continue
        key = node.target, _key(node.args), _key(node.kwargs)
        if key in seen:
            node.replace_all_uses_with(seen[key])
            graph.erase_node(node)
        else:
            seen[key] = node


def _key(value: Any) -> Any:
    """A value that is equal for equal arguments of operators, 1 and 1.0 and True being different."""
    if isinstance(value, (list, tuple)):
        return tuple([_key(item) for item in value])
    if isinstance(value, dict):
        return tuple([(name, _key(item)) for name, item in value.items()])
    return value if isinstance(value, fx.Node) else (type(value), repr(value))


def add_before_summing(graph: fx.Graph) -> None:
    """Rewrite sum(a) + sum(b) as sum(a + b), and c sum(a) + c sum(b) as c sum(a + b).

    Sound up to rounding: these are linear functions. Gain: the gradient of a parameter is added up over the steps of a
    chunk before it is summed over the batch, once instead of once for each step.
    """
    for node in list(graph.nodes):
        if (
            node.target is not aten.add.Tensor
            or node.kwargs
            or not all(isinstance(term, fx.Node) for term in node.args)
        ):
            continue
        left, right = node.args
        links: list[tuple[fx.Node, Any]] = []
        while (found := _same_linear_function(left, right)) is not None:
            links.append((left, found))
            left, right = left.args[found], right.args[found]
        if not any(link.target in _SUMS for link, _ in links):
            continue
        with graph.inserting_before(node):
            total = add(graph, aten.add.Tensor, (left, right), left.meta["val"])
            for link, place in reversed(links):
                arguments = tuple([total if i == place else argument for i, argument in enumerate(link.args)])
                total = add(graph, link.target, arguments, link.meta["val"], **link.kwargs)
        node.replace_all_uses_with(total)
        graph.erase_node(node)


def _same_linear_function(left: Any, right: Any) -> int | None:
    """Which argument differs, if two values come by one linear function from values of one shape and are used once."""
    if left is right or left.op != "call_function" or left.target is not right.target or left.kwargs != right.kwargs:
        return None
    if len(left.users) != 1 or len(right.users) != 1 or len(left.args) != len(right.args):
        return None
    if left.target in _LINEAR:
        places = [0]
    elif left.target is aten.mul.Tensor:
        places = [0, 1]
    else:
        return None
    for place in places:
        a, b = left.args[place], right.args[place]
        others = [(x, y) for i, (x, y) in enumerate(zip(left.args, right.args, strict=True)) if i != place]
        if isinstance(a, fx.Node) and isinstance(b, fx.Node) and all(x is y or x == y for x, y in others):
            if shape_of(a) == shape_of(b) and a.meta["val"].dtype == b.meta["val"].dtype:
                return place
    return None


def computed_once(graph: fx.Graph, constants: Iterable[fx.Node]) -> dict[fx.Node, None]:
    """The inputs `constants`, and what is computed from them alone and no larger than what it is computed from."""
    known = dict.fromkeys(constants)  # in order, as compiled graphs are found by their text
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op != "call_function" or not isinstance(node.meta.get("val"), Tensor) or is_write(node):
            continue
        made = all(source in known or _is_made(source) for source in sources)
        if made and any(source in known for source in sources) and _is_smaller(node, sources):
            known[node] = None
    return known


def _is_made(node: fx.Node) -> bool:
    """Whether a node makes a constant of no input, such as aten.full."""
    return node.op == "call_function" and not node.all_input_nodes


def _is_smaller(node: fx.Node, sources: list[fx.Node]) -> bool:
    """Whether a value is no larger than the largest of those that it is computed from, for any free sizes."""
    sizes = [x.meta["val"].numel() for x in (node, *sources) if isinstance(x.meta["val"], Tensor)]
    return all(isinstance(n, int) for n in sizes) and sizes[0] <= max(sizes[1:], default=0)


def take_out(graph: fx.Graph, constants: list[fx.Node], on_cpu: bool) -> fx.Graph | None:
    """Move what depends on `constants` alone into a graph of its own, whose values become inputs, last in `graph`.

    Sound: the constants keep their values during a call. Gain: exp(-dt / tau) is computed once a call and not in every
    chunk. On a GPU only large values are taken out: a kernel that waits for memory computes small ones in no time.
    """
    once = computed_once(graph, constants)
    worth = once if on_cpu else _without_small(once)
    values = [node for node in worth if node.op == "call_function" and any(user not in worth for user in node.users)]
    if not values:
        return None
    before, copies = fx.Graph(), {}
    for i, node in enumerate(constants):
        copies[node] = before.placeholder(f"constant{i}")
        copies[node].meta["val"] = node.meta["val"]
    for node in graph.nodes:
        if (node in once and node not in copies) or _is_made(node):
            copies[node] = before.node_copy(node, copies.__getitem__)
            if node.target is torch.ops.prims.convert_element_type.default:  # which runs in Python
                value, dtype = copies[node].args
                copies[node].target, copies[node].args, copies[node].kwargs = _CONVERT, (value,), {"dtype": dtype}
    before.output([copies[node] for node in values])
    before.eliminate_dead_code()
    last = inputs_of(graph)[-1]
    for i, node in enumerate(values):
        with graph.inserting_after(last):
            last = graph.placeholder(f"value{i}")
        last.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(last, lambda user: user not in worth)
    graph.eliminate_dead_code(must_stay)
    return before


_CONVERT = aten._to_copy.default
_LARGE = 2**20  # elements


def _without_small(known: dict[fx.Node, None]) -> dict[fx.Node, None]:
    """`known` without what is computed from small values alone."""
    found: dict[fx.Node, None] = {}
    for node in known:
        if _is_large(node) or any(source in found or _is_large(source) for source in node.all_input_nodes):
            found[node] = None
    return found


def _is_large(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and isinstance(n := value.numel(), int) and n >= _LARGE
