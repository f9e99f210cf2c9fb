"""One layer after the other over a whole sequence: on all steps at once, as a compiled program, or as a plain loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..core.dynamics import exporting
from ..core.states import detach_states, settle
from ..engine.program_cache import flattened, program_for
from ..engine.proof import prove
from ..engine.time_loop import NoForwardDerivative, run_program
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import has_saved_tensor_hooks, tree_unflatten
from .eager import check_output, exported_loop, plain_loop
from .layers import on_all_steps, runs_on_all_steps, takes_all_steps
from .start import first_step, reset_for


class Mode(NamedTuple):
    """How to run over time.

    Attributes:
        compile: as compiled programs.
        bar: for the progress.
        attached: the final states carry their graph.
        reset: the states are still to be reset.
        shared_start: somebody else has the first states, and may write to them before the backward pass.
    """

    compile: bool
    bar: Any
    attached: bool = True
    reset: bool = False
    shared_start: bool = False


def run_row(row: Sequence[nn.Module], ys: Any, mode: Mode, ours: bool = False) -> tuple[Any, bool]:
    """The output of the last layer over all steps.

    Args:
        ys: the input of the first layer, with time in front.
        ours: nobody else has it, so that its gradient may take its place.

    Returns:
        The output; and whether nobody else has it. Hooks for saved tensors see the tensors between the layers.
    """
    for layer in row:
        arguments = ys if isinstance(ys, tuple) else (ys,)
        ours = ours and not has_saved_tensor_hooks()
        if len(arguments) == 1 and runs_on_all_steps(layer, arguments[0]):
            ys, ours = on_all_steps(layer, arguments[0], mode.compile, ours)
            mode.bar.update(arguments[0].shape[0])
        else:
            ys, ours = _run(layer, arguments, mode, ours)
    return ys, ours


def _run(net: nn.Module, arguments: tuple[Any, ...], mode: Mode, ours: bool) -> tuple[Any, bool]:
    """All steps of one layer; its new states stay in its buffers."""
    settle(net)
    if takes_all_steps(net) and len(arguments) == 1 and type(x := arguments[0]) in (Tensor, nn.Parameter):
        if (ys := net.over_time(x, mode.reset)) is not None:  # type: ignore[operator]
            mode.bar.update(len(x))
            if not mode.attached:
                detach_states(net)
            return ys, False
    warn: Callable[[], None] = lambda: None  # noqa: E731
    if mode.compile:
        try:
            return _compiled(net, arguments, mode, ours), True
        except NotCompilable as reason:
            message = f"{type(net).__name__} runs step by step in Python: {reason}"
            warn = functools.partial(warn_once, message)
    elif exporting():
        if mode.reset:
            reset_for(net, arguments)
        return exported_loop(net, arguments), False
    start = functools.partial(first_step, net, arguments) if mode.reset else None
    ys = plain_loop(net, arguments, start, warn, mode.bar)
    if not mode.attached:
        detach_states(net)
    return ys, False


def _compiled(net: nn.Module, arguments: tuple[Any, ...], mode: Mode, ours: bool) -> Any:
    """All steps as a compiled program.

    Raises:
        NotCompilable: with the reason; the states are then as they were, or reset.
    """
    if mode.reset:
        reset_for(net, arguments)
    xs, spec = flattened(arguments)
    ready = program_for(net, xs, spec)
    program, fresh = ready.program, not ready.program.proven
    states = [value.clone() for value in ready.states] if mode.shared_start else ready.states
    # Before the run, as hooks see what that saves.
    if not program.is_proven(len(xs[0])) and (reason := prove(program, net, states, xs, spec)):
        program.failure = reason
        raise NotCompilable(reason)
    try:
        outs, final = run_program(program, states, ready.constants, xs, mode.bar, mode.attached, ours)
    except (NotCompilable, NoForwardDerivative):
        raise
    except Exception as error:
        if not fresh:
            raise
        program.failure = f"its first run failed ({type(error).__name__}: {error})"
        raise NotCompilable(program.failure) from error
    ready.hand_over(final)
    if program.single:
        return outs[0]
    ys = tree_unflatten(list(outs), program.step.output_spec)
    check_output(net, ys)
    return ys
