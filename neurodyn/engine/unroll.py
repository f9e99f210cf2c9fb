"""`unroll`: run a module over time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint as checkpointed

from ..dynamics import exporting, in_transform
from ..progress import Quiet
from ..progress import bar as progress_bar
from ..states import check_dt, constants, detach_states, get_states, hold_states, pure, set_states
from .errors import EagerWarning, NotCompilable
from .late import program_of
from .layers import flattened, is_stateless, layers
from .start import reset_for
from .watch import Watch

#: Shorter sequences show no progress bar.
_LONG = 1000


def unroll(
    module: nn.Module,
    xs: Any,
    *,
    states: Mapping[str, Tensor] | None = None,
    return_states: bool = False,
    compile: bool = True,
    checkpoint: int | None = None,
    record: str | Iterable[str] = (),
    progress: bool = True,
) -> Any:
    """Run `module` over the time steps of `xs`.

    Modules without states inside an ``nn.Sequential`` run once on all steps, flattened to ``(T * batch, ...)``; each
    run of `Dynamics` between them, and every recurrent or composite module, runs step by step in compiled chunks. The
    numbers are the same on every path. The final states stay in the module, detached. Inside ``torch.compile`` the
    steps are written out into the graph, inside ``torch.export`` they become a scan.

    Args:
        module: any module; its forward takes one step.
        xs: the inputs, time first: ``(T, *batch, ...)``, or a tuple of such tensors for several arguments.
        states: where to start, as `get_states` gives them; by default from `reset_state`.
        return_states: return ``(ys, states)``, where the final states carry their graph, as for truncated
            backpropagation through time.
        compile: False runs eagerly, with derivatives of any order.
        checkpoint: keep states for the backward pass only every so many steps, and compute the others again.
        record: names of states, such as "1.V", and of modules inside, such as "1", for their outputs. Then the result
            is ``(ys, recording)``: a `Trace` by name, with its graph, and the final states, with theirs.
        progress: show a bar when the forward pass of a long sequence takes more than 2 s, if tqdm is installed and the
            terminal is interactive.

    Returns:
        What the module returns, each tensor with time in front.

    Raises:
        ValueError: no time step, layers with different dt, a start state of the wrong shape.
        TypeError: DistributedDataParallel, which goes around the loop.
        KeyError: a name in `record` that is neither a state nor a module.
    """
    if isinstance(module, nn.parallel.DistributedDataParallel):
        raise TypeError(
            "unroll: DistributedDataParallel acts once per sequence, so it goes around the loop; "
            "use nd.distributed.ddp(nd.Unroll(net)) and call that"
        )
    arguments = (xs,) if isinstance(xs, Tensor) else tuple(xs)
    leaves = pytree.tree_leaves(arguments)
    if not leaves or not all(isinstance(x, Tensor) and x.dim() and x.shape[0] == leaves[0].shape[0] for x in leaves):
        raise ValueError("unroll: xs must be tensors with the same number of time steps in front")
    if leaves[0].shape[0] == 0:
        raise ValueError(f"unroll: xs has no time step, its shape is {tuple(leaves[0].shape)}")
    if checkpoint is not None and checkpoint < 1:
        raise ValueError(f"unroll: checkpoint must be a positive number of steps, got {checkpoint}")
    check_dt(module)
    restore = hold_states(module) if exporting() or in_transform() else None  # there no tensor may stay behind
    if states is not None:
        set_states(module, states)
        get_states(module)

    watch = Watch(module, record)
    if watch.targets and return_states:
        raise ValueError("unroll: with record=, the final states are recording.states; leave out return_states")
    ys: Any = arguments
    with _bar(module, leaves[0].shape[0], progress) as bar:
        for layer in layers(module):
            ys = ys if isinstance(ys, tuple) else (ys,)
            if is_stateless(layer):
                ys = flattened(layer, *ys)
            else:
                if states is None:
                    reset_for(layer, pytree.tree_map(lambda x: x[0], ys))
                layer = watch.around(layer)
                ys = _run(layer, ys, compile, checkpoint, bar)
            ys = watch.taken(layer, ys)
    final = get_states(module)
    detach_states(module)
    if restore is not None:
        restore()
    if watch.targets:
        return ys, watch.recording(final, leaves[0].shape[0])
    return (ys, final) if return_states else ys


class Unroll(nn.Module):
    """`unroll` as a module, for use inside ``nn.Sequential``: input and output have time in front.

    Args:
        module: runs over time; its states are reset at every call.
        options: keywords of `unroll`.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), nd.Unroll(nd.LIF(8)), torch.nn.Linear(8, 2))
        >>> net(torch.rand(50, 4, 3)).shape  # time, batch, features
        torch.Size([50, 4, 2])
    """

    def __init__(self, module: nn.Module, **options: Any):
        super().__init__()
        self.module, self.options = module, options

    def forward(self, xs: Any) -> Any:
        return unroll(self.module, xs, **self.options)


def _bar(module: nn.Module, T: int, wanted: bool) -> Any:
    """A progress bar over the steps of all layers, for sequences that can take long."""
    if not wanted or torch.compiler.is_compiling() or T < _LONG:
        return contextlib.nullcontext(Quiet())
    return progress_bar(T * sum(not is_stateless(layer) for layer in layers(module)), after=2.0)


def _run(net: nn.Module, arguments: tuple[Any, ...], compile: bool, checkpoint: int | None, bar: Any) -> Any:
    """All steps of a module with states; its new states stay in its buffers, with their graph."""
    if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
        return _scanned(net, arguments)
    if torch.compiler.is_compiling():  # write the steps out; Inductor compiles several scans in one graph wrongly
        return _eager(net, arguments, checkpoint, bar)
    if compile and not in_transform():
        leaves, spec = pytree.tree_flatten(arguments)
        try:
            outs = _compiled(net, leaves, spec, checkpoint, bar)
        except NotCompilable as reason:
            _say_once(net, str(reason))
        else:
            return outs
    return _eager(net, arguments, checkpoint, bar)


def _compiled(net: nn.Module, leaves: list[Tensor], spec: pytree.TreeSpec, checkpoint: int | None, bar: Any) -> Any:
    program = program_of(net, [leaf[0] for leaf in leaves], spec)
    from .sequence import run

    states, fixed = get_states(net), constants(net)
    outs, final = run(program, net, list(states.values()), list(fixed.values()), leaves, checkpoint, bar)
    set_states(net, dict(zip(states, final, strict=True)))
    return pytree.tree_unflatten(outs, program.output_spec)


def _scanned(net: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Inside torch.export: one scan over time in the graph that is being made, for any T."""
    from torch._higher_order_ops.scan import scan_op

    start, fixed = get_states(net), constants(net)
    leaves, spec = pytree.tree_flatten(arguments)
    n, m, output_spec = len(start), len(start) + len(leaves), None

    def step(*tensors: Tensor) -> list[Tensor]:
        nonlocal output_spec
        given = dict(zip(start, tensors[:n], strict=True)) | dict(zip(fixed, tensors[m:], strict=True))
        y, states = pure(net, given, *pytree.tree_unflatten(tensors[n:m], spec))
        outs, output_spec = pytree.tree_flatten(y)
        return [value.clone() for value in (*states.values(), *outs)]

    found = scan_op(step, list(start.values()), leaves, tuple(fixed.values()))
    set_states(net, dict(zip(start, found[:n], strict=True)))
    return pytree.tree_unflatten(found[n:], output_spec)  # type: ignore[arg-type]


def _eager(net: nn.Module, arguments: tuple[Any, ...], checkpoint: int | None, bar: Any = Quiet()) -> Any:
    T = len(pytree.tree_leaves(arguments)[0])
    names = list(get_states(net))

    def block(first: int, last: int, *values: Tensor) -> tuple[list[Any], list[Tensor]]:
        states, ys = dict(zip(names, values, strict=True)), []
        for t in range(first, last):
            y, states = pure(net, states, *pytree.tree_map(lambda x, t=t: x[t], arguments))
            ys.append(y)
            bar.update(1)
        return ys, list(states.values())

    values, outs = list(get_states(net).values()), []
    steps = checkpoint or T
    for first in range(0, T, steps):
        last = min(first + steps, T)
        if checkpoint and torch.is_grad_enabled():
            ys, values = checkpointed(block, first, last, *values, use_reentrant=False)
        else:
            ys, values = block(first, last, *values)
        outs += ys
    set_states(net, dict(zip(names, values, strict=True)))
    return pytree.tree_map(lambda *ys: torch.stack(ys), *outs)


_said: set[str] = set()


def _say_once(net: nn.Module, reason: str) -> None:
    message = f"{type(net).__name__} runs step by step in Python: {reason}"
    if message not in _said:
        _said.add(message)
        warnings.warn(message, EagerWarning, stacklevel=4)
