"""`Stream`: a network as one compiled step, for inputs that come one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import check_called, check_dt, get_states, held_states, named_dynamics
from ..engine.program import Program
from ..engine.program_cache import Ready, flattened, program_for
from ..engine.proof import prove
from ..engine.time_loop import plain
from ..loop.start import reset_for
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import inside_transform, tree_flatten, tree_map, tree_unflatten


class Stream:
    """One compiled time step of a network, without gradients, for closed loops: robots, live sensors, games.

    Calling the network itself takes some 10 us for each operation inside. A stream takes some 30 us in all for a layer,
    most of it to see that the network is still the one that was compiled. The states stay in the network, where they
    can be read, reset and set between two calls. Values of parameters may change as well. After any other change to the
    network, such as another module or attribute, the next call compiles anew.

    Args:
        net: any module; its forward takes one step. Layers without a state are reset for the batch of the example.
        example: an input of one step, or a tuple of them for several arguments: their shapes, dtypes and device.

    Raises:
        TypeError: an example, or an input, that is no tensor.
        ValueError: a network that cannot be tried; at a call, when an input or a state differs from the example in
            shape, dtype, device or structure.
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
        x, self.spec = flattened(arguments)
        if not x or not all(isinstance(tensor, Tensor) for tensor in x):
            wanted = "a tensor, the input of one step, or a tuple of them for several arguments"
            raise TypeError(f"Stream: the example is {example!r}, wanted {wanted}")
        if not all(module.is_set for _, module in named_dynamics(net)):
            try:
                reset_for(net, tree_map(lambda tensor: tensor.unsqueeze(0), arguments))
            except NotCompilable as reason:
                raise ValueError(
                    f"Stream: the batch of its layers is found by a step that is tried, and cannot be: {reason}; call "
                    "nd.reset_states(net, *batch) before"
                ) from None
        states = get_states(net)
        self.names = [*(f"input {i}" for i in range(len(x))), *states]
        self.kinds = [_kind(tensor) for tensor in (*x, *states.values())]
        self.inputs = len(x)
        self.flat = all(isinstance(argument, Tensor) for argument in arguments)
        self.program: Program | None = None
        try:  # compile now, and not at the first input
            with torch.no_grad():
                xs = [tensor.unsqueeze(0) for tensor in x]
                self._prepare(program_for(net, xs, self.spec), xs)
        except NotCompilable as reason:
            warn_once(f"Stream runs {type(net).__name__} in Python: {reason}")

    def __call__(self, *inputs: Any) -> Any:
        """What the network returns for this step."""
        if inside_transform():  # whose tensors have no memory of their own
            return self.net(*inputs)
        x, spec = (inputs, self.spec) if self.flat else tree_flatten(inputs)
        if len(x) != self.inputs or spec != self.spec or any([type(t) is not Tensor or t.requires_grad for t in x]):
            self._check(x, spec)
        with torch.no_grad():
            xs = [tensor.unsqueeze(0) for tensor in x]
            try:
                ready = program_for(self.net, xs, self.spec)
                if ready.program is not self.program or self._sizes(ready, xs) != self.sizes:
                    self._check(x, spec)
                    self._prepare(ready, xs)
            except NotCompilable as reason:
                self._check(x, spec)
                warn_once(f"Stream runs {type(self.net).__name__} in Python: {reason}")
                return self.net(*inputs)
            states = plain(ready.states)
            outs, new = [torch.empty_like(out) for out in self.outs], [torch.empty_like(state) for state in states]
            self.chunk.once([*states, *plain(ready.constants), *plain(xs), *new, *outs], self.sizes)
            ready.hand_over(new)
        return outs[0] if ready.program.single else tree_unflatten(outs, ready.program.step.output_spec)

    def _sizes(self, ready: Ready, xs: Sequence[Tensor]) -> tuple[int, ...]:
        return ready.program.sizes((*ready.states, *ready.constants, *xs))

    def _prepare(self, ready: Ready, xs: list[Tensor]) -> None:
        """Take a program, compiled, and compared with the plain step."""
        program, self.program = ready.program, None
        if 1 not in program.proven and (reason := prove(program, self.net, ready.states, xs, self.spec)):
            program.failure = reason
            raise NotCompilable(reason)
        self.chunk, self.sizes = program.chunk("forward", 1), self._sizes(ready, xs)
        self.outs = [layout.empty(self.sizes) for layout in program.step.outs]
        self.program = program

    def _check(self, x: Sequence[Tensor], spec: Any) -> None:
        states = held_states(self.net)
        if len(x) != self.inputs:
            raise ValueError(f"Stream: made for {self.inputs} input{'s' * (self.inputs != 1)}, got {len(x)}")
        if spec != self.spec:
            raise ValueError(f"Stream: the inputs are arranged as {spec}, this stream was made for {self.spec}")
        now = [*x, *(states.get(name) for name in self.names[len(x) :])]
        for name, kind, tensor in zip(self.names, self.kinds, now, strict=True):
            if not isinstance(tensor, Tensor):
                if tensor is None and name in self.names[len(x) :]:
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
