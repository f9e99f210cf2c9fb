"""What a step must be like for its traces; each error names what is not, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..delays.delay import Delay
from ..networks.rnn import GRUCell, TorchCell
from .local import Key, Step, connected, slopes, value_of


def check_elementwise(net: nn.Module, key: Key, leaves: list[Key], step: Step) -> None:
    """See that a derivative is one number for each neuron: backwards, any vector comes out times that number."""
    value = value_of(key, step)
    name = key[1] if key[0] == "state" else f"the input of {step.calls[key[1]].name}"
    weights = _weights(value)
    ones = slopes([value], leaves, step, torch.ones_like)
    weighted = slopes([value], leaves, step, lambda _: weights)
    for leaf, one, other in zip(leaves, ones, weighted, strict=True):
        if one is None or other is None:
            continue
        of = step.calls[leaf[1]].name if leaf[0] == "map" else leaf[1]
        tolerance = 1e-4 * one.abs().amax() + 1e3 * torch.finfo(one.dtype).eps  # rounding, where they cancel to zero
        if one.shape != value.shape or bool(((one * weights - other).abs() > tolerance).any()):
            raise NotImplementedError(
                f"nd.online: {name} {tuple(value.shape)} of {type(net).__name__} does not depend on {of} "
                f"{tuple(one.shape)} neuron by neuron; eligibility traces are for linear maps whose outputs go to "
                "neurons and synapses one to one. nd.online.OTTT and nd.online.SLTT take pooling and norms between "
                "them; nd.unroll and backward() take everything"
            )


def _weights(value: Tensor) -> Tensor:
    """Numbers between 1 and 2 without a pattern, the same each time and without the random state."""
    place = torch.arange(value.numel(), dtype=value.dtype, device=value.device)
    return 1 + torch.frac(place * 0.6180339887498949).square().reshape(value.shape)


def check_followed(net: nn.Module, rule: str, by_neuron: bool) -> None:
    """See that no part of a network is of a kind that a rule cannot follow, whatever is around it.

    Args:
        by_neuron: whether the rule has traces neuron by neuron.

    Raises:
        NotImplementedError: cells of torch; with such traces also some of `neurodyn.networks.rnn`, and learned delays.
    """
    for name, module in net.named_modules():
        at = f"{rule}: {name or 'the network'} is"
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            kind = type(module).__name__
            raise NotImplementedError(
                f"{at} torch's {kind}, which keeps no states that a rule can follow; DRTRL and ESDRTRL take "
                "nd.MGUCell, SLTT takes nd.RNNCell, nd.GRUCell and nd.LSTMCell too, and all of them nd.Recurrent(cell, "
                "nn.Linear(n, n)) with a neuron or readout as its cell"
            )
        if not by_neuron or not any(p.requires_grad for p in module.parameters()):
            continue
        if isinstance(module, (TorchCell, GRUCell)):
            raise NotImplementedError(
                f"{at} {module._label()}, whose gates are computed together, and traces follow each unit by itself; "
                "use nd.MGUCell with DRTRL or ESDRTRL, or nd.Recurrent(cell, nn.Linear(n, n)) with a neuron or readout "
                "as its cell, or nd.online.SLTT, or nd.unroll and backward()"
            )
        if isinstance(module, Delay) and module.learned:
            raise NotImplementedError(
                f"{at} {module._label()}, whose delay is learned, and there are no traces for what a delay has held; "
                "freeze it by requires_grad_(False), use nd.online.SLTT, or nd.unroll and backward()"
            )


def check_others(net: nn.Module, traced: set[int], step: Step, others: Mapping[str, Tensor]) -> None:
    """A parameter that acts on a state, and so on later steps, needs a trace.

    Args:
        traced: the calls of maps that act on states; what acts on their inputs acts on these states.
        others: parameters without traces.

    Raises:
        NotImplementedError: one of them acts on a state.
    """
    places = {f"the state {name}": value for name, value in step.states.items()}
    places |= {f"the input of {step.calls[k].name}": step.calls[k].exit for k in traced}  # type: ignore[dict-item]
    for place, value in places.items():
        if not others or value is None or not value.requires_grad:
            continue
        found = torch.autograd.grad(
            value, list(others.values()), torch.ones_like(value), retain_graph=True, allow_unused=True
        )
        for name, g in zip(others, found, strict=True):
            if g is not None:
                raise NotImplementedError(
                    f"nd.online: {name} of {type(net).__name__} acts on {place}, so on later steps, and there are "
                    "traces for nn.Linear, convolutions, nd's connections without delays, and parameters that a neuron "
                    "or synapse declares with nd.param; freeze it by requires_grad_(False), put it into one of these, "
                    "or use nd.online.SLTT, or nd.unroll and backward()"
                )


def check_within_step(net: nn.Module, step: Step, others: Iterable[str]) -> None:
    """See that each trained map acts on the output in the same step, for rules that see nothing else.

    Args:
        others: names of the trained parameters of no map, of which those of delayed connections act later.

    Raises:
        NotImplementedError: one does not, so that it would never learn.
    """
    for name in others:
        if getattr(net.get_submodule(name.rpartition(".")[0]), "delays", None) is not None:
            raise NotImplementedError(
                f"nd.online: {name} of {type(net).__name__} belongs to a connection with delays, so that it does not "
                "act on the output within a step, and OTTT and SLTT would never train it; freeze it by "
                "requires_grad_(False), or use nd.unroll and backward()"
            )
    known = [key for key in step.leaves if key[0] == "map"]
    reached = connected(step.outputs, known, step) if known else set()
    for k in reversed(range(len(step.calls))):
        call = step.calls[k]
        if ("map", k) in reached and call.exit is not None:
            reached |= connected([call.exit], known, step)
        elif ("map", k) not in reached and any(p.requires_grad for p in call.map.parameters()):
            raise NotImplementedError(
                f"nd.online: {call.name} of {type(net).__name__} does not act on the output within a step, for example "
                "because a delay follows it, so that OTTT and SLTT would never train it; use nd.online.DRTRL, or "
                "freeze it by requires_grad_(False)"
            )
