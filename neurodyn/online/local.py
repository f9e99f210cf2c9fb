"""One step of a network, cut at its linear maps.

Between the maps neurons do not see each other, so that a derivative there is one number for each neuron::

    states before ─┐                        ┌─ states after
    parameters ────┼── neurons, elementwise ┤
    maps' outputs ─┘                        └─ inputs of maps, outputs of the network

What stands on the left are leaves of autograd, so that one backward pass from the right gives all these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import pure
from ..torch_private import tree_flatten, tree_unflatten

#: A leaf: ("state", name), ("own", name of a parameter) or ("map", number of the call).
Key = tuple[str, Any]


@dataclass
class Call:
    """A call of a linear map from `x` to `y`.

    `exit` is x with the graph of the step, None if it has none; `leaf` is y as the step goes on with it.
    """

    map: nn.Module
    name: str
    x: Tensor
    exit: Tensor | None
    y: Tensor
    leaf: Tensor


@dataclass
class Step:
    """A step with its graph.

    Attributes:
        leaves: by key, as above.
        states: the states after the step, with their graph.
        outputs: of the network, with their graph, and `given`, the leaves that the user gets for them.
        y: what the user gets.
        memory: the dicts of the rule, after the step.
    """

    leaves: dict[Key, Tensor]
    states: dict[str, Tensor] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)
    rows: dict[Key, dict[Key, Tensor]] = field(default_factory=dict)
    y: Any = None
    memory: list[dict[Any, Tensor]] = field(default_factory=list)

    @property
    def results(self) -> list[Tensor]:
        """All that the step gives."""
        return results(self.outputs, self.states, self.memory)


def run(
    net: nn.Module, maps: Mapping[nn.Module, str], states: Mapping[str, Tensor], own: Mapping[str, Tensor], inputs: Any
) -> Step:
    """Run a step of `net`."""
    leaves: dict[Key, Tensor] = {("own", name): value for name, value in own.items()}
    leaves |= {("state", name): leaf(value) for name, value in states.items()}
    step, entered = Step(leaves), []

    def before(map: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        (x,) = args
        entered.append((x, leaf(x) if x.requires_grad else x))
        return (entered[-1][1],)

    def after(map: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        x, inside = entered.pop()
        call = Call(map, maps[map], inside, x if x.requires_grad else None, y, leaf(y))
        step.leaves["map", len(step.calls)] = call.leaf
        step.calls.append(call)
        return call.leaf

    hooks = [map.register_forward_pre_hook(before) for map in maps]
    hooks += [map.register_forward_hook(after) for map in maps]
    try:
        tensors = {name: step.leaves["state", name] for name in states} | dict(own)
        y, step.states = pure(net, tensors, *inputs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs, spec = tree_flatten(y)
    step.outputs = [value for value in outputs if isinstance(value, Tensor)]
    step.given = [leaf(value) if value.requires_grad else value for value in step.outputs]
    given = iter(step.given)
    step.y = tree_unflatten([next(given) if isinstance(v, Tensor) else v for v in outputs], spec)
    return step


def results(
    outputs: Sequence[Tensor], states: Mapping[str, Tensor], memory: Sequence[Mapping[Any, Tensor]]
) -> list[Tensor]:
    """Outputs, states and memory of a rule, in a row."""
    return [value.detach() for value in (*outputs, *states.values(), *(v for held in memory for v in held.values()))]


def leaf(value: Tensor) -> Tensor:
    """The same numbers as a leaf of autograd."""
    value = value.detach()
    return value.requires_grad_() if value.is_floating_point() else value


def slopes(outputs: list[Tensor], keys: list[Key], step: Step, seed: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
    """The derivatives of `outputs` by leaves, each summed over the outputs with the weights that `seed` makes."""
    seeds = [seed(value) for value in outputs]
    leaves = [step.leaves[key] for key in keys]
    return list(torch.autograd.grad(outputs, leaves, seeds, retain_graph=True, allow_unused=True))


def connected(values: list[Tensor], keys: list[Key], step: Step) -> set[Key]:
    """The leaves that any of the values depends on."""
    values = [value for value in values if value.requires_grad]
    if not values or not keys:
        return set()
    found = slopes(values, keys, step, torch.ones_like)
    return {key for key, g in zip(keys, found, strict=True) if g is not None}


def value_of(key: Key, step: Step) -> Tensor:
    """The tensor of a row: a state after the step, or the input of a map."""
    kind, name = key
    value = step.states[name] if kind == "state" else step.calls[name].exit
    assert value is not None
    return value
