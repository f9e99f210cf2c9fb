"""Which states carry eligibility traces, and of what; found once, from the graph of the first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .checks import check_elementwise, check_others
from .local import Key, Step, connected, slopes, value_of


@dataclass
class Plan:
    """What the traces of a network are.

    Attributes:
        rows: for each state that carries traces, and other values that do, the leaves that it depends on.
        carried: for each of them the parameters and calls of maps whose traces it carries.
        kept: for each call of a map, whether its input passes gradients to what is before it.
        trained: the parameters and calls of maps that learn.
    """

    rows: dict[Key, list[Key]]
    carried: dict[Key, set[Key]]
    kept: list[bool]
    trained: set[Key]

    @property
    def sources(self) -> list[Key]:
        """All parameters and calls of maps that have traces."""
        return sorted(set().union(*self.carried.values()))

    def check(self, net: nn.Module, step: Step) -> None:
        """See that each derivative is one number for each neuron."""
        for key, leaves in self.rows.items():
            check_elementwise(net, key, leaves, step)

    def fill(self, step: Step) -> None:
        """Set the derivatives of each row by its leaves, one number for each neuron."""
        for key, leaves in self.rows.items():
            found = slopes([value_of(key, step)], leaves, step, torch.ones_like)
            step.rows[key] = {leaf: g for leaf, g in zip(leaves, found, strict=True) if g is not None}


def make_plan(net: nn.Module, step: Step, others: Mapping[str, Tensor], starts: Iterable[tuple[Key, Key]]) -> Plan:
    """The plan of the network that made this step.

    Args:
        others: trained parameters that are neither of a map nor a neuron's own.
        starts: the parameters that initial states depend on, each with the state.

    Raises:
        NotImplementedError: a state that mixes neurons, or a parameter that no trace can follow.
    """
    known = [key for key, value in step.leaves.items() if value.requires_grad]
    rows: dict[Key, set[Key]] = {}
    for name, value in step.states.items():
        rows["state", name] = connected([value], known, step) if value.requires_grad else set()
    carried = _carried(rows, starts)
    shown = connected(step.outputs, known, step)
    seen = [set() if call.exit is None else connected([call.exit], known, step) for call in step.calls]
    now = [{key for key in keys if key[0] != "state"} for keys in seen]
    past = [set().union(*(carried[key] for key in keys if key[0] == "state")) for keys in seen]
    before = _ancestors([a | b for a, b in zip(now, past, strict=True)])
    # D-RTRL: what a map gets from earlier steps has no gradient if the map acts on it, as in a recurrent layer.
    kept = [bool(now[k]) or (bool(past[k]) and k not in before[k]) for k in range(len(seen))]
    shown = shown.union(*(keys for keys, keep in zip(seen, kept, strict=True) if keep))
    cut = set().union(*(keys for keys, keep in zip(past, kept, strict=True) if not keep))
    needed, waiting = {}, [key for key in shown if key[0] == "state"]
    while waiting:
        key = waiting.pop()
        if key in needed or not rows[key] or not carried[key]:
            continue
        needed[key] = sorted(leaf for leaf in rows[key] if leaf[0] != "state" or carried[leaf])
        waiting += [leaf for leaf in rows[key] if leaf[0] == "state"]
    trained = {("own", name) for kind, name in step.leaves if kind == "own"}
    trained |= {("map", k) for k, call in enumerate(step.calls) if any(p.requires_grad for p in call.map.parameters())}
    plan = Plan(needed, {key: carried[key] & trained for key in needed}, kept, trained)
    for kind, name in sorted((cut & trained) - shown.union(*plan.carried.values())):
        what = step.calls[name].name if kind == "map" else name
        raise NotImplementedError(
            f"nd.online: {what} of {type(net).__name__} acts on the output only by way of a loop through a linear map, "
            "which online rules leave out, so that it would never learn; freeze it by requires_grad_(False), or use "
            "nd.unroll and backward()"
        )
    traced = {name for kind, name in set().union(*carried.values()) if kind == "map"}
    check_others(net, traced, step, others)
    return plan


def _carried(rows: Mapping[Key, set[Key]], starts: Iterable[tuple[Key, Key]]) -> dict[Key, set[Key]]:
    """For each state all parameters and maps' outputs that act on it, also by way of earlier states."""
    carried = {key: {leaf for leaf in leaves if leaf[0] != "state"} for key, leaves in rows.items()}
    for source, key in starts:
        carried[key].add(source)
    for _ in rows:
        for key, leaves in rows.items():
            carried[key] |= set().union(*(carried.get(leaf, set()) for leaf in leaves))
    return carried


def _ancestors(sources: list[set[Key]]) -> list[set[int]]:
    """For each call of a map all calls that act on its input, at any time, from those that do so directly."""
    found = [{name for kind, name in keys if kind == "map"} for keys in sources]
    for _ in found:
        found = [calls.union(*(found[k] for k in calls)) for calls in found]
    return found
