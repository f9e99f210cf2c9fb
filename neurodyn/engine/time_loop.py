"""The forward and the backward pass of a program over a whole sequence.

Memory: for the backward pass the states before each chunk are kept (T / steps rows for T steps), and the matrix
products of every step; the backward pass computes the rest again, chunk by chunk. Time and memory grow with T, and
without gradients the memory is that of the outputs.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..tools.memory import LARGE, huge
from ..torch_private import can_overwrite_saved_tensors, has_hooks, in_forward_mode, stands_for_many
from .cuda_graphs import in_a_graph, is_worth
from .interpreted import interpreted_backward
from .places import BACKWARD, FORWARD, FORWARD_ONLY, Stretch
from .program import Program

#: Bytes of inputs that are worked on at a time where their gradients take their place.
_AT_A_TIME = 2**20


class NoForwardDerivative(RuntimeError):
    """A tensor has a forward derivative, which the compiled loop would drop."""


class Forward(NamedTuple):
    """What a forward pass gives.

    Attributes:
        outs: of all steps, with time in front.
        states: after the last step.
        history: the states before each chunk, with a row for each, and those after the last; empty if not kept.
        products: matrix products of all steps, for the backward pass.
    """

    outs: list[Tensor]
    states: list[Tensor]
    history: list[Tensor]
    products: list[Tensor]


def forward_pass(
    program: Program,
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    progress: Any = None,
    steps: int = 0,
    outs: Sequence[Tensor] | None = None,
    owned: bool = False,
) -> Forward:
    """Run all steps.

    Args:
        states, constants, xs: contiguous, xs with time in front.
        steps: of a chunk, if not the usual number.
        outs: where to write the outs, with time in front.
        owned: nobody else has the states, so that rings of delays are changed where they are.
    """
    step, T, keep = program.step, xs[0].shape[0], program.differentiable
    sizes = program.sizes((*states, *constants, *xs))
    stretches = program.stretches(T, steps)
    chunks = stretches[-1].row + len(stretches[-1].chunks)
    outs = [huge(layout.empty(sizes, T)) for layout in step.outs] if outs is None else list(outs)
    products = [huge(layout.empty(sizes, T)) for layout in program.products] if keep else []
    n_rows, places = (chunks + 1, FORWARD) if keep else (2, FORWARD_ONLY)
    rings = program.rings(stretches) if owned and not keep else frozenset()
    history = []
    for i, (layout, state) in enumerate(zip(step.signature.states, states, strict=True)):
        history.append(state.unsqueeze(0) if i in rings else huge(layout.empty(sizes, n_rows)))
        if i not in rings:
            history[i][0] = state
    for stretch in stretches:
        chunk = program.chunk("forward", stretch.steps)
        tensors = {
            "states": history,
            "constants": constants,
            "xs": xs,
            "new_states": history,
            "outs": outs,
            "products": products,
            "values": chunk.values(constants),
        }
        chunk.run(tensors, stretch, sizes, places, progress)
    last = chunks if keep else chunks % 2
    final = [rows[0] if i in rings else rows[last].clone() for i, rows in enumerate(history)]
    return Forward(outs, final, history if keep else [], products)


def backward_pass(
    program: Program,
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    history: Sequence[Tensor],
    products: Sequence[Tensor],
    grad_outs: Sequence[Tensor],
    grad_states: Sequence[Tensor],
    in_place: bool = False,
) -> list[Tensor]:
    """The gradients of the signature's sources, from those of the differentiable outs and the floating final states.

    With `in_place` the gradients of xs take the place of these.
    """
    signature, T = program.step.signature, xs[0].shape[0]
    sizes = program.sizes((*[row[0] for row in history], *constants, *xs))
    given, turn = [grad.new_empty((2, *grad.shape)) for grad in grad_states], 0
    for rows, grad in zip(given, grad_states, strict=True):
        rows[0] = grad
    sums = [torch.zeros_like(constants[i]) for i in signature.learned or ()]
    wanted = [xs[i] for i in signature.wanted]
    grad_xs = [x.detach() if in_place else huge(torch.empty_like(x)) for x in wanted]
    for stretch in reversed(program.stretches(T)):
        chunk = program.chunk("backward", stretch.steps)
        tensors = {
            "states": history,
            "constants": constants,
            "xs": xs,
            "products": products,
            "grad_new_states": given,
            "grad_outs": grad_outs,
            "grad_states": given,
            "grad_xs": grad_xs,
            "sums": sums,
            "values": chunk.values(constants),
        }
        if not in_place:
            turn = chunk.run(tensors, stretch._replace(chunks=stretch.chunks[::-1], turn=turn), sizes, BACKWARD)
            continue
        for part in _parts(stretch, xs):  # whose gradients are written beside it first
            steps = slice(part.step, part.step + len(part.chunks) * part.steps)
            of_steps = {group: [rows[steps] for rows in tensors[group]] for group in ("xs", "products", "grad_outs")}
            written = [torch.empty_like(x[steps]) for x in wanted]
            here = part._replace(step=0, chunks=part.chunks[::-1], turn=turn)
            turn = chunk.run(tensors | of_steps | {"grad_xs": written}, here, sizes, BACKWARD)
            for grad, new in zip(grad_xs, written, strict=True):
                grad[steps] = new
    return [*[rows[turn] for rows in given], *sums, *grad_xs]


def _parts(stretch: Stretch, xs: Sequence[Tensor]) -> Iterator[Stretch]:
    """A stretch cut into shorter ones, the last one first, whose inputs are small."""
    n, most = len(stretch.chunks), max(1, _AT_A_TIME // sum(x[: stretch.steps].nbytes for x in xs))
    for last in range(n, 0, -most):
        first = max(0, last - most)
        yield stretch._replace(
            step=stretch.step + first * stretch.steps, row=stretch.row + first, chunks=range(last - first)
        )


class Call(NamedTuple):
    """What a call depends on besides the tensors that may have a gradient.

    Attributes:
        final: a list for the final states, if nobody will ask for their gradient.
        in_place: nobody else reads xs, so that their gradients may take their place.
        tensors: those that may have a gradient; their hooks are known when the backward pass runs.
        copied: tensors that are not contiguous, with their versions: the backward pass reads a copy.
    """

    program: Program
    constants: Sequence[Tensor]
    tensors: list[Tensor]
    progress: Any
    final: list[Tensor] | None
    in_place: bool
    copied: list[tuple[Tensor, int]]


class TimeLoop(torch.autograd.Function):
    """``(call, *states, *learned, *xs) -> (*outs, *final states)``; learned ones are among the constants too."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        program, signature = call.program, call.program.step.signature
        n, m = len(signature.states), len(signature.states) + len(signature.learned or ())
        states, xs = tensors[:n], tensors[m:]
        found = _forward(program, states, call.constants, xs, call.progress)
        ctx.call, ctx.lengths = call, (len(call.constants), len(xs), len(found.history), len(found.products))
        ctx.save_for_backward(*call.constants, *xs, *found.history, *found.products)
        results = (*found.outs, *found.states)
        without = [results[i] for i in range(len(results)) if i not in program.step.differentiable]
        if call.final is not None:
            call.final.extend(found.states)
            without, results = [out for out in found.outs if any(out is v for v in without)], tuple(found.outs)
        ctx.mark_non_differentiable(*without)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        program = ctx.call.program
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        for tensor, version in ctx.call.copied:
            if tensor._version != version:
                raise RuntimeError(
                    f"unroll: a tensor of shape {tuple(tensor.shape)} that the gradient needs, parameter or input, "
                    "was changed in place after the forward pass; call backward before, or change a clone"
                )
        saved = [tensor.contiguous() for tensor in ctx.saved_tensors]  # a hook may have had them
        parts, first = [], 0
        for length in ctx.lengths:
            parts.append(saved[first : first + length])
            first += length
        constants, xs, history, products = parts
        used = tuple([i for i in program.step.differentiable if i < len(grads) and grads[i] is not None])
        n, T = len(program.step.outs), len(xs[0])

        def grad(i: int) -> Tensor:
            """That of an out or a final state; zeros for one that the loss does not depend on."""
            if i in used:
                return grads[i]  # type: ignore[return-value]
            if i >= n:
                return torch.zeros_like(history[i - n][0])
            sizes = program.sizes((*[rows[0] for rows in history], *constants, *xs))
            return program.step.outs[i].empty(sizes, T).zero_()

        grad_outs = [grad(i) for i in program.step.differentiable if i < n]
        grad_states = [grad(n + i) for i in program.floating]
        if stands_for_many((*grad_outs, *grad_states)):
            found = interpreted_backward(
                program.step, constants, xs, [rows[0] for rows in history], grad_outs, grad_states
            )
        else:
            changing = (xs, history, products, plain(grad_outs), plain(grad_states))
            found = _backward(program, constants, changing, ctx.call.in_place and can_overwrite_saved_tensors())
        gradients: list[Tensor | None] = [None] * len(ctx.call.tensors)
        for i, own in zip(program.positions, found, strict=True):
            gradients[i] = own
        for i in program.unreached(used, T):
            if not has_hooks(ctx.call.tensors[i]):  # which expect a tensor
                gradients[i] = None
        return None, *gradients


def run_program(
    program: Program,
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    progress: Any = None,
    attached: bool = True,
    in_place: bool = False,
    steps: int = 0,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Outs of all steps and final states, with their graph if the program has gradients; the states if `attached`.

    Args:
        in_place: nobody else reads xs, so that their gradients may take their place.
        steps: of a chunk, if not the usual number; without gradients only.

    Raises:
        NoForwardDerivative: a tensor has one.
    """
    signature = program.step.signature
    if in_forward_mode() and any(forward_ad.unpack_dual(t).tangent is not None for t in (*states, *constants, *xs)):
        raise NoForwardDerivative(
            "unroll: the compiled loop has no forward derivatives; use unroll(..., compile=False)"
        )
    learned = [constants[i] for i in signature.learned or ()]
    given = (*constants, *xs) if program.differentiable else ()
    states, constants, xs = plain(states), plain(constants), plain(xs)
    if not program.differentiable:
        found = _forward(program, states, constants, xs, progress, steps)
        return found.outs, found.states
    in_place = in_place and program.on_cpu and sum(x.nbytes for x in xs) >= LARGE
    final: list[Tensor] | None = None if attached else []
    constants = [constant.detach() for constant in constants]
    tensors = [*states, *learned, *xs]
    n, m = len(program.step.outs), len(program.step.outs) + len(states) * attached
    # What nothing reaches has no gradient, not one of zeros, and its hooks do not run.
    for i in program.unreached(tuple(range(m)), len(xs[0])):
        tensors[i] = tensors[i].detach()
    copied = [(t, t._version) for t in given if not t.is_contiguous() and not t.is_inference()]
    results = TimeLoop.apply(Call(program, constants, tensors, progress, final, in_place, copied), *tensors)
    return results[:n], results[n:] if final is None else final


def plain(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors as programs are traced with them: contiguous, and none that is only marked as negative."""
    return [t if t.is_contiguous() and not t.is_neg() else t.contiguous().resolve_neg() for t in tensors]


def _forward(
    program: Program,
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    progress: Any,
    steps: int = 0,
) -> Forward:
    """`forward_pass`, in a CUDA graph where that is worth it."""
    if program.on_cpu:
        return forward_pass(program, states, constants, xs, progress, steps)

    def function(constants: Sequence[Tensor], states: Sequence[Tensor], xs: Sequence[Tensor]) -> Forward:
        return forward_pass(program, states, constants, xs, steps=steps)

    T, sizes = len(xs[0]), program.sizes((*states, *constants, *xs))
    results = T * sum(layout.nbytes(sizes) for layout in (*program.step.outs, *program.products))
    found = _in_a_graph(program, "forward", function, constants, (states, xs), T, results, steps)
    if found is None:
        return forward_pass(program, states, constants, xs, progress, steps)
    if progress is not None:
        progress.update(T)
    return found


def _backward(
    program: Program, constants: Sequence[Tensor], changing: Sequence[Sequence[Tensor]], in_place: bool
) -> list[Tensor]:
    """`backward_pass`, in a CUDA graph where that is worth it."""
    found = None
    if not program.on_cpu:
        function = functools.partial(backward_pass, program)
        results = sum(g.nbytes for part in changing[3:] for g in part)
        found = _in_a_graph(program, "backward", function, constants, changing, len(changing[0][0]), results)
    return backward_pass(program, constants, *changing, in_place=in_place) if found is None else found


def _in_a_graph(
    program: Program,
    kind: str,
    function: Callable[..., Any],
    constants: Sequence[Tensor],
    changing: Sequence[Sequence[Tensor]],
    T: int,
    results: int,
    steps: int = 0,
) -> Any:
    """``function(constants, *changing)`` in a CUDA graph; None where that is not worth it.

    Args:
        results: their bytes.
    """
    counts = [(program.chunk(kind, part.steps).launches, len(part.chunks)) for part in program.stretches(T, steps)]
    launches = sum(n * chunks for n, chunks in counts) if all(n for n, _ in counts) else 0  # it may do anything else

    def whole(flat: Sequence[Tensor], constants: Sequence[Tensor]) -> Any:
        given = iter(flat)
        return function(constants, *[[next(given) for _ in part] for part in changing])

    flat = [*itertools.chain(*changing)]
    return in_a_graph(whole, (kind, program, steps), flat, constants) if is_worth(launches, flat, results) else None
