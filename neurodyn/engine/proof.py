"""A new program proves itself: on the first real data that it meets, its results are compared with the plain step's.

Outputs, final states and, with gradients, the gradients of a fixed weighted sum of them, over a few steps. Elements
that rounding decides, such as a potential that lies at the threshold up to rounding, are left out: they are those in
which the plain loop itself changes if its inputs are changed by a few units of the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.states import constants, held_states, pure, same_tensors, state_places
from ..torch_private import TreeSpec, tree_leaves, tree_unflatten, without_saved_tensor_hooks
from .program import Program
from .time_loop import NoForwardDerivative, run_program

_TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-3}
_COARSE = 0.1  # of half precision
_ROUNDING = 16  # units of the last place
_TRIES = 3
_MOVES = 8  # trials in which the inputs are changed
_FEW = 1e-3  # of the elements in half precision: a spike more or less changes those after it, which no trial may show


def prove(
    program: Program,
    net: nn.Module,
    states: Sequence[Tensor],
    xs: Sequence[Tensor],
    spec: TreeSpec,
    steps: int = 0,
) -> str:
    """Compare a program with the plain step; what differs, or nothing.

    Args:
        states: where the call starts.
        xs: its inputs, with time in front.
        steps: of a chunk, if not the usual number.
    """
    first, *shorter = program.stretches(len(xs[0]), steps)
    lengths = {first.steps, *(stretch.steps for stretch in shorter)} - program.proven
    if not lengths:
        return ""
    # Two chunks of the usual length, and all shorter ones: what goes from chunk to chunk is compared too.
    n = min(2, len(first.chunks)) * first.steps + sum(stretch.steps * len(stretch.chunks) for stretch in shorter)
    given = [
        [_without_graph(value) for value in kind] for kind in (states, constants(net).values(), [x[:n] for x in xs])
    ]
    with without_saved_tensor_hooks(), torch.inference_mode(False):
        try:
            compiled = _results(program, given, lambda *tensors: run_program(program, *tensors, steps=steps))
        except NoForwardDerivative:
            raise
        except Exception as error:
            return f"its first run failed ({type(error).__name__}: {error})"

        def plain_loop(*tensors: Sequence[Tensor]) -> Any:
            return _loop(net, spec, *tensors)

        wanted = _results(program, given, plain_loop)
        with torch.set_grad_enabled(program.differentiable):  # inference_mode(False) has switched gradients on
            own = _named(*_own_loop(net, spec, given[0], given[2]))
        if any(bool(mask.any()) for mask in _different(wanted, own).values()):
            return (
                "its step gives other results when equal tensors stand for its parameters: it reads their class, "
                "identity or attributes"
            )
        differs = _different(compiled, wanted)
        if any(bool(mask.any()) for mask in differs.values()):
            wrong: list[str] = []
            for trial in range(_MOVES):
                moved = _results(program, [_moved(kind, trial) for kind in given], plain_loop)
                unsure = _different(moved, wanted, scale=0.1)
                differs = {name: mask & ~unsure[name] for name, mask in differs.items()}
                if not (wrong := [name for name, mask in differs.items() if _matters(mask, wanted[name])]):
                    break
            if wrong:
                return f"its compiled {wrong[0]} differs from the plain step's"
            program.tries += 1
            if program.tries < _TRIES:
                return ""  # rounding decides here; the next call may tell more
    program.proven |= lengths
    return ""


def _without_graph(value: Tensor) -> Tensor:
    """The same tensor where it has no gradient: some layers look whether theirs have been replaced."""
    return value.detach() if value.requires_grad else value


def _loop(net: nn.Module, spec: TreeSpec, states: Any, fixed: Any, xs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The plain loop as a function of its tensors."""
    known = dict(zip(constants(net), fixed, strict=True))
    now = dict(zip(held_states(net), states, strict=True))

    def step(*x: Any) -> Any:
        nonlocal now
        y, now = pure(net, known | now, *x)
        return y

    with same_tensors(net):
        return _outs(step, spec, xs), list(now.values())


def _own_loop(net: nn.Module, spec: TreeSpec, states: Any, xs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The plain loop on the module itself, whose parameters nothing stands for."""
    with same_tensors(net):
        for (place, name), value in zip(state_places(net), states, strict=True):
            place[name] = value
        return _outs(net, spec, xs), list(held_states(net).values())


def _outs(step: Callable[..., Any], spec: TreeSpec, xs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of all steps, one after the other."""
    rows = [tree_leaves(step(*tree_unflatten([x[t] for x in xs], spec))) for t in range(len(xs[0]))]
    return [torch.stack(list(out)) for out in zip(*rows, strict=True)]


def _named(outs: Sequence[Tensor], final: Sequence[Tensor]) -> dict[str, Tensor]:
    """Outputs and final states by what they are called in messages."""
    found = {f"output {i}": out.detach() for i, out in enumerate(outs)}
    return found | {f"state {i}": value.detach() for i, value in enumerate(final)}


def _results(program: Program, given: Sequence[Sequence[Tensor]], run: Any) -> dict[str, Tensor]:
    """Outputs, final states and gradients, by what they are called in messages."""
    signature = program.step.signature
    leaves = [value for kind in given for value in kind]
    if program.differentiable:
        for i in signature.sources:
            leaves[i] = leaves[i].detach().clone().requires_grad_()
    n, m = len(given[0]), len(given[0]) + len(given[1])
    with torch.set_grad_enabled(program.differentiable):
        outs, final = run(leaves[:n], leaves[n:m], leaves[m:])
        results, found = [*outs, *final], _named(outs, final)
        if program.differentiable:
            pulled = [results[i] for i in program.step.differentiable if results[i].requires_grad]
            weights = [torch.linspace(0.5, 1.5, v.numel(), dtype=v.dtype, device=v.device).view_as(v) for v in pulled]
            sources = [leaves[i] for i in signature.sources]
            grads = torch.autograd.grad(pulled, sources, weights, allow_unused=True)
            for i, (source, grad) in enumerate(zip(sources, grads, strict=True)):
                found[f"gradient {i}"] = torch.zeros_like(source) if grad is None else grad
    return found


def _matters(wrong: Tensor, of: Tensor) -> bool:
    """Whether elements that differ are more than rounding explains."""
    return int(wrong.sum()) > (_FEW * wrong.numel() if _is_coarse(of) else 0)


def _is_coarse(value: Tensor) -> bool:
    """Whether a result is computed in half precision."""
    return value.dtype.is_floating_point and _precision(value.dtype) >= 1e-5


def _moved(tensors: Sequence[Tensor], trial: int) -> list[Tensor]:
    """The tensors, changed by some units of the last place, in each trial in another way."""
    found = []
    for i, tensor in enumerate(tensors):
        if tensor.dtype.is_floating_point:
            places = torch.arange(1 + i, 1 + i + tensor.numel(), dtype=torch.float64, device=tensor.device)
            noise = 2 * torch.frac(places * (0.6180339887498949 + 0.7548776662466927 * trial)).view(tensor.shape) - 1
            tensor = tensor * (1 + _ROUNDING * _precision(tensor.dtype) * noise).to(tensor.dtype)
        found.append(tensor)
    return found


def _precision(dtype: torch.dtype) -> float:
    """The unit of the last place with which results of this dtype are computed."""
    coarse = [torch.get_autocast_dtype(d) for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)]
    return max(torch.finfo(kind).eps for kind in (dtype, *coarse))


def _different(a: Mapping[str, Tensor], b: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
    """For each result where two runs differ by more than rounding."""
    found = {}
    for name, value in b.items():
        tolerance = _TOLERANCE.get(value.dtype, _COARSE)
        if _is_coarse(value):
            tolerance = _COARSE
        found[name] = differing(a[name], value, scale * tolerance)
    return found


def differing(found: Tensor, wanted: Tensor, tolerance: float) -> Tensor:
    """Where two tensors differ by more than `tolerance`, of the value itself and of the largest one; NaN equals NaN.

    Everywhere if shape or dtype differ. What is no floating-point number has to be equal.
    """
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return torch.ones_like(wanted, dtype=torch.bool)
    if not wanted.dtype.is_floating_point:
        return found != wanted
    finite = wanted[wanted.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    return ~torch.isclose(found, wanted, rtol=tolerance, atol=tolerance * size + 1e-30, equal_nan=True)
