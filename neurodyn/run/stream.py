"""`Stream`: a network as one compiled step, for inputs that come one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import check_called, check_dt, get_states, held_states, named_dynamics, settle, state_places
from ..engine.program import Program
from ..engine.program_cache import program_for
from ..engine.proof import prove
from ..engine.time_loop import forward_pass, plain
from ..loop.start import reset_for
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import tree_flatten, tree_map, tree_unflatten


class Stream:
    """One compiled time step of a network, without gradients, for closed loops: robots, live sensors, games.

    Calling the network itself takes some 10 us for each operation inside. A stream takes some 150 us in all, most of it
    to see that the network is still the one that was compiled: it pays for networks of several layers. The states stay
    in the network, where they can be read, reset and set between two calls. Values of parameters may change as well,
    but not through ``.data``, which leaves no trace. After any other change to the network, such as another module or
    attribute, make a new stream.

    Args:
        net: any module; its forward takes one step. Layers without a state are reset for the batch of the example.
        example: an input of one step, or a tuple of them for several arguments: their shapes, dtypes and device.

    Raises:
        ValueError: at a call, when an input or a state differs from the example in shape, dtype, device or structure.
        RuntimeError: at a call, when an input requires gradients; use the network itself, or `unroll`.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), nd.LIF(8), nd.LeakyRateReadout(8, 2))
        >>> step = nd.Stream(net, torch.zeros(3))
        >>> step(torch.rand(3)).shape
        torch.Size([2])
    """

    def __init__(self, net: nn.Module, example: Any):
        check_dt(net)
        check_called(net, "Stream")
        self.net = net
        arguments = example if isinstance(example, tuple) else (example,)
        x, self.spec = tree_flatten(arguments)
        if not all(module.is_set for _, module in named_dynamics(net)):
            reset_for(net, tree_map(lambda tensor: tensor.unsqueeze(0), arguments))
        states = get_states(net)
        self.kinds = {f"input {i}": _kind(tensor) for i, tensor in enumerate(x)}
        self.inputs = len(x)
        self.kinds |= {name: _kind(tensor) for name, tensor in states.items()}
        self.flat = all(isinstance(argument, Tensor) for argument in arguments)
        try:  # compile now, and not at the first input
            with torch.no_grad():
                self._program([tensor.unsqueeze(0) for tensor in x])
        except NotCompilable as reason:
            warn_once(f"Stream runs {type(net).__name__} in Python: {reason}")

    def __call__(self, *inputs: Any) -> Any:
        """What the network returns for this step."""
        x, spec = (list(inputs), self.spec) if self.flat else tree_flatten(inputs)
        settle(self.net)
        states = held_states(self.net)
        self._check(x, spec, states)
        with torch.no_grad():
            xs = [tensor.unsqueeze(0) for tensor in x]
            try:
                program, constants = self._program(xs)
            except NotCompilable as reason:
                warn_once(f"Stream runs {type(self.net).__name__} in Python: {reason}")
                return self.net(*inputs)
            found = forward_pass(program, plain(states.values()), plain(constants), plain(xs))
        for (place, name), value in zip(state_places(self.net), found.states, strict=True):
            place[name] = value
        return tree_unflatten([out[0] for out in found.outs], program.step.output_spec)

    def _program(self, xs: list[Tensor]) -> tuple[Program, list[Tensor]]:
        """The program for the network as it is now, compiled and compared with the plain step."""
        program, constants = program_for(self.net, xs, self.spec)
        if reason := prove(program, self.net, list(held_states(self.net).values()), xs, self.spec):
            program.failure = reason
            raise NotCompilable(reason)
        return program, constants

    def _check(self, x: Sequence[Tensor], spec: Any, states: dict[str, Tensor]) -> None:
        names = list(self.kinds)[len(x) :] if len(x) < len(self.kinds) else []
        now = [states.get(name) for name in names]
        wanted = self.inputs
        if len(x) != wanted:
            raise ValueError(f"Stream: made for {wanted} input{'s' * (wanted != 1)}, got {len(x)}")
        if spec is not self.spec and spec != self.spec:
            raise ValueError(f"Stream: the inputs are arranged as {spec}, this stream was made for {self.spec}")
        for (name, kind), tensor in zip(self.kinds.items(), (*x, *now), strict=True):
            if not isinstance(tensor, Tensor):
                if tensor is None:
                    raise ValueError(
                        f"Stream: {name} has no value; call nd.reset_states(net, *batch), or make another nd.Stream if "
                        "a delay has become shorter"
                    )
                raise TypeError(f"Stream: {name} is a {type(tensor).__name__}, wanted a tensor")
            if _kind(tensor) != kind:
                raise ValueError(
                    f"Stream: {name} has {_told(_kind(tensor))}, this stream was made for {_told(kind)}; "
                    "make another nd.Stream for it, or reset the states with nd.reset_states(net, *batch)"
                )
        if any(tensor.requires_grad for tensor in x):
            raise RuntimeError("Stream: it has no gradients, and an input requires them; call the network or nd.unroll")


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _told(kind: tuple[Any, ...]) -> str:
    return f"shape {tuple(kind[0])} of {kind[1]} on {kind[2]}"
