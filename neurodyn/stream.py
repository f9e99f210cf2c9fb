"""`Stream`: a network as one compiled step, for inputs that come one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .engine.donation import apart
from .engine.errors import EagerWarning, NotCompilable
from .engine.late import program_of
from .engine.start import reset_for
from .states import check_dt, constants, get_states, named_dynamics

_address = Tensor.data_ptr


class Stream:
    """One compiled time step of a network, without gradients, for closed loops: robots, live sensors, games.

    Calling the network itself takes some 10 us for each operation inside; a stream takes about as long in all. The
    states stay in the network, where they can be read, reset and set between two calls. Values of parameters may change
    as well, but not through ``.data``, which leaves no trace. After any other change to the network, such as another
    module or attribute, make a new stream.

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
        self.net = net
        arguments = example if isinstance(example, tuple) else (example,)
        x, self.spec = pytree.tree_flatten(arguments)
        if not all(module.is_set for _, module in named_dynamics(net)):
            reset_for(net, pytree.tree_map(lambda tensor: tensor.unsqueeze(0), arguments))
        states = get_states(net)
        self.kinds = {f"input {i}": _kind(tensor) for i, tensor in enumerate(x)}
        self.kinds |= {name: _kind(tensor) for name, tensor in states.items()}
        self.states, self.constants = [_places(net, names) for names in (states, constants(net))]
        self.flat = all(isinstance(argument, Tensor) for argument in arguments)
        self.seen: list[Any] = []
        self.plan: Any = None
        self.program: Any = None
        try:
            self.program = program_of(net, [tensor.unsqueeze(0) for tensor in x], self.spec)
            self.step = self.program.forward(net, 1).result()
            batch = next(iter(states.values())).shape[: len(self.program.batch)]
            self.outs = [layout.empty(batch) for layout in self.program.outs]
        except NotCompilable as reason:
            warnings.warn(f"Stream runs {type(net).__name__} in Python: {reason}", EagerWarning, stacklevel=2)
            self.program = None

    def __call__(self, *inputs: Any) -> Any:
        """What the network returns for this step."""
        x, spec = (inputs, self.spec) if self.flat else pytree.tree_flatten(inputs)
        states = [tensors[name] for tensors, name in self.states]
        self._check(x, spec, states)
        if self.program is None:
            with torch.no_grad():
                return self.net(*inputs)
        fixed = [tensors[name] for tensors, name in self.constants]
        x, states = [[tensor.contiguous() for tensor in kind] for kind in (x, states)]
        outs = [torch.empty_like(out) for out in self.outs]
        seen = [(tensor.data_ptr(), tensor.is_inference() or tensor._version) for tensor in fixed]
        if seen != self.seen:
            with torch.no_grad():
                self.originals, self.fixed = fixed, [tensor.contiguous() for tensor in fixed]
                self.values = self.step.prologue(self.fixed, {})
            self.plan, self.seen = None, seen
        new = self._replayed(states, x, outs)
        if new is None:
            given = self._given(states, x, outs)
            with torch.no_grad(), self.step.limited(given):
                new = apart([state.contiguous() for state in self.step.chunk([*given])], given)  # emptied there
        for (tensors, name), state in zip(self.states, new, strict=True):
            tensors[name] = state
        spec = self.program.output_spec
        return outs[0] if spec.is_leaf() else pytree.tree_unflatten(outs, spec)

    def _replayed(self, states: list[Tensor], x: Sequence[Tensor], outs: list[Tensor]) -> list[Tensor] | None:
        """The new states, by calling the kernels of the step alone; None if that cannot be done."""
        if self.plan is None and self.step.tape is not None:
            sizes = self.program.sizes(states, self.fixed)
            self.plan = self.step.tape.plan(sizes, states, lambda: self._given(states, x, outs))
            if self.plan is not None:
                self.addresses = [*map(_address, self.fixed)], [*map(_address, self.values)]
        if self.plan is None:
            return None
        new, (of_fixed, of_values) = [torch.empty_like(tensor) for tensor in states], self.addresses
        given = *map(_address, states), *of_fixed, *map(_address, x), *map(_address, outs), *of_values
        return new if self.plan.once([*given, *map(_address, new)]) else None

    def _given(self, states: list[Tensor], x: Sequence[Tensor], outs: list[Tensor]) -> list[Tensor]:
        return [*states, *self.fixed, *(tensor.unsqueeze(0) for tensor in x), *outs, *self.values]

    def _check(self, x: Sequence[Tensor], spec: Any, states: list[Any]) -> None:
        wanted = len(self.kinds) - len(states)
        if len(x) != wanted:
            raise ValueError(f"Stream: made for {wanted} input{'s' * (wanted != 1)}, got {len(x)}")
        if spec is not self.spec and spec != self.spec:
            raise ValueError(f"Stream: the inputs are arranged as {spec}, this stream was made for {self.spec}")
        for (name, kind), tensor in zip(self.kinds.items(), (*x, *states), strict=True):
            if not isinstance(tensor, Tensor):
                if tensor is None:
                    raise ValueError(f"Stream: {name} has no value; call nd.reset_states(net, *batch)")
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


def _places(net: nn.Module, names: Iterable[str]) -> list[tuple[dict[str, Any], str]]:
    """For each parameter or buffer the dict that holds it, and its name there."""
    found = []
    for path, _, name in (qualified.rpartition(".") for qualified in names):
        module = net.get_submodule(path)
        found.append((module._parameters if name in module._parameters else module._buffers, name))
    return found
