"""A row of layers over time, each over the whole sequence: compiled, eagerly, or inside another trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..states import constants, detach_states, get_states, pure, set_states
from .donation import are_unseen
from .errors import BatchSpecialised, EagerWarning, NotCompilable
from .late import engine
from .layers import flattened, is_stateless
from .start import reset_for

#: How so many tensors in a row are arranged.
_IN_A_ROW = [pytree.tree_flatten((0,) * n)[1] for n in range(9)]


def flat(arguments: tuple[Any, ...]) -> tuple[list[Any], pytree.TreeSpec]:
    """The tensors in the arguments of a module, and how they are arranged."""
    if len(arguments) < len(_IN_A_ROW) and all([isinstance(argument, Tensor) for argument in arguments]):
        return list(arguments), _IN_A_ROW[len(arguments)]
    return pytree.tree_flatten(arguments)


def of_each(function: Callable[[Tensor], Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with `function` of each tensor in its place."""
    if all([isinstance(argument, Tensor) for argument in arguments]):
        return tuple([function(argument) for argument in arguments])
    return pytree.tree_map(function, arguments)


class How(NamedTuple):
    """How to run over time.

    Attributes:
        compile: in compiled chunks; False inside torch.compile and torch.func.
        bar: for the progress.
        attached: the final states carry their graph.
        given: the first states are somebody's, who may write to them before the backward pass.
        reset: the states have still to be reset.
    """

    compile: bool
    bar: Any
    attached: bool = True
    given: bool = False
    reset: bool = False


def through(row: Sequence[nn.Module], ys: Any, how: How, donated: bool = False) -> tuple[Any, bool]:
    """The output of the last layer over all steps; those with states start from the ones in their buffers.

    The second value tells whether nobody else has the output, so that it may be overwritten once it has been used;
    `donated` tells it of the input. Hooks for saved tensors see the tensors between the layers.
    """
    for layer in row:
        ys = ys if isinstance(ys, tuple) else (ys,)
        donated = donated and are_unseen()
        if is_stateless(layer):
            ys, donated = flattened(layer, *ys, compile=how.compile, donated=donated)
        else:
            ys, donated = _run(layer, ys, how, donated)
    return ys, donated


def _run(net: nn.Module, arguments: tuple[Any, ...], how: How, donated: bool) -> tuple[Any, bool]:
    """All steps of a module with states; its new states stay in its buffers."""
    if how.compile:
        leaves, spec = flat(arguments)
        left = how.reset

        def reset() -> None:  # once: it may draw random numbers
            nonlocal left
            if left:
                left = False
                reset_for(net, arguments)

        try:
            return _compiled(net, leaves, spec, how, reset, donated), True
        except NotCompilable as reason:
            _say_once(net, str(reason))
            reset()
    elif torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
        return _scanned(net, arguments), False
    # Inside torch.compile the steps are written out: Inductor compiles several scans in one graph wrongly.
    ys = _eager(net, arguments, how.bar)
    if not how.attached:
        detach_states(net)
    return ys, False


def _compiled(
    net: nn.Module,
    leaves: list[Tensor],
    spec: pytree.TreeSpec,
    how: How,
    reset: Callable[[], None],
    donated: bool,
) -> Any:
    program_for, run = engine()

    def start() -> list[Tensor]:
        reset()
        return [buffers[name].clone() if how.given else buffers[name] for buffers, name in now.states]

    program, now = program_for(net, leaves, spec, reset)
    try:
        outs, final = run(program, net, start, how.reset, now.constants, leaves, how.bar, how.attached, donated)
    except BatchSpecialised:
        from .programs import specialise

        specialise(program)
        return _compiled(net, leaves, spec, how, reset, donated)
    for (buffers, name), value in zip(now.states, final, strict=True):
        buffers[name] = value
    return outs[0] if program.output_spec.is_leaf() else pytree.tree_unflatten(outs, program.output_spec)


def _scanned(net: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Inside torch.export: one scan over time in the graph that is being made, for any T."""
    from torch._higher_order_ops.scan import scan_op

    start, fixed = get_states(net), constants(net)
    leaves, spec = pytree.tree_flatten(arguments)
    n, m, output_spec = len(start), len(start) + len(leaves), None

    def step(*tensors: Tensor) -> list[Tensor]:
        nonlocal output_spec
        given = dict(zip(start, tensors[:n], strict=True)) | dict(zip(fixed, tensors[m:], strict=False))
        y, states = pure(net, given, *pytree.tree_unflatten(tensors[n:m], spec))
        outs, output_spec = pytree.tree_flatten(y)
        return [value.clone() for value in (*states.values(), *outs)]

    sizes = {size.node.expr: size for x in leaves for size in x.shape[1:] if isinstance(size, torch.SymInt)}
    further = *fixed.values(), *sizes.values()  # AOTInductor looks for the sizes of the batch there
    found = scan_op(step, list(start.values()), leaves, further)
    set_states(net, dict(zip(start, found[:n], strict=True)))
    return pytree.tree_unflatten(found[n:], output_spec)  # type: ignore[arg-type]


def _eager(net: nn.Module, arguments: tuple[Any, ...], bar: Any) -> Any:
    states, ys = get_states(net), []
    for t in range(len(pytree.tree_leaves(arguments)[0])):
        y, states = pure(net, states, *of_each(lambda x, t=t: x[t], arguments))
        ys.append(y)
        bar.update(1)
    set_states(net, states)
    return pytree.tree_map(lambda *ys: torch.stack(ys), *ys)


_said: set[str] = set()


def _say_once(net: nn.Module, reason: str) -> None:
    message = f"{type(net).__name__} runs step by step in Python: {reason}"
    if message not in _said:
        _said.add(message)
        warnings.warn(message, EagerWarning, stacklevel=5)
