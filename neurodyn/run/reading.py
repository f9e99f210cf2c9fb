"""How `simulate` reads its inputs: as tensors, each of them a constant or a series of rows.

The shape says which of the two, where the network takes one shape only. Where it does not, a step of a copy is tried
with each; if both work, the caller has to say it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import a_dimension, example_in
from ..core.states import check_dt, get_states, has_batch, named_dynamics
from ..core.trial import copy_of, equal, step_of
from ..inputs.source import Source
from ..inputs.spike_time import SpikeTime
from ..purity.watching import Watching
from ..tools.errors import NotCompilable
from .calls import steps_in
from .series import Timed

_MOST_TRIED = 4  # inputs that may be either; each doubles the number of steps to try


def read_inputs(
    net: nn.Module, given: Any, T: int, start: int = 0
) -> Callable[..., tuple[Tensor, ...]] | tuple[Timed, ...]:
    """The inputs of T steps, each one marked, or a function that draws them, whose rows come as tensors.

    Args:
        net: its states are those of the first step.
        given: `inputs` of `simulate`.
        T: number of steps.
        start: the first step.

    Raises:
        TypeError: something that is no tensor, array, number or quantity.
        pint.DimensionalityError: a quantity of another dimension than the first layer takes, where it says its unit.
        ValueError: a series with another number of rows than steps; an input that may be a constant or a series.
    """
    like = next((x for x in get_states(net).values() if x.is_floating_point()), torch.empty(()))
    given = () if given is None else given if isinstance(given, tuple) else (given,)
    if any(callable(x) for x in given):
        return _drawn(net, given, T, start, like)
    shape, taker = (input_shape(net), _taker(net)) if len(given) == 1 else (None, None)
    found: list[Timed | Tensor] = []
    dt = check_dt(net)
    for i, x in enumerate(given):
        found.append(_read(x, _which(i, len(given)), shape, T, like, dt, taker))
    if any(isinstance(x, Tensor) for x in found):
        found = _tried(net, found, T)
    return tuple(x for x in found if isinstance(x, Timed))


def _read(
    x: Any,
    which: str,
    shape: tuple[int, ...] | None,
    T: int,
    like: Tensor,
    dt: float,
    taker: Dynamics | None = None,
) -> Timed | Tensor:
    """An input with its mark, or without one where its shape does not tell."""
    value = as_tensor(x.value if isinstance(x, Timed) else x, like, taker)
    varies = x.varies if isinstance(x, Timed) else None
    every = steps_in(x.dt, dt, "dt of nd.series") if isinstance(x, Timed) and x.dt is not None else 1
    if value.dim() == 0 and not varies:  # a single number is meant for all neurons
        value, varies = value if shape is None else value.expand(shape).contiguous(), False
    elif varies is None:
        varies = _by_shape(tuple(value.shape), shape, T)
    if varies and (value.dim() == 0 or len(value) != -(-T // every)):
        rows = len(value) if value.dim() else "no"
        meant = "" if isinstance(x, Timed) else f"; for a constant of a batch pass batch=({rows},)"
        wanted = (
            f"one for each of the {T} steps" if every == 1 else f"{-(-T // every)}, one for {every} of the {T} steps"
        )
        raise ValueError(
            f"simulate: {which} of shape {tuple(value.shape)} is a series with {rows} rows, wanted {wanted}{meant}"
        )
    if varies and value.dim() == 1 and shape:  # a single number in each row is meant for all neurons
        value = value.view(-1, *(1 for _ in shape)).expand(-1, *shape)
    return value if varies is None else Timed(value, varies, every=every)


def _drawn(net: nn.Module, given: tuple[Any, ...], T: int, start: int, like: Tensor) -> Callable[..., Any]:
    """A function that gives the rows of all inputs, of which at least one is a function or a source."""
    batch = next((m.batch for _, m in named_dynamics(net) if has_batch(m)), ())
    dt, draws = check_dt(net), []
    taker = _taker(net) if len(given) == 1 else None
    for i, x in enumerate(given):
        if isinstance(x, (Source, SpikeTime)):
            if dt != x.dt:
                raise ValueError(
                    f"simulate: {_which(i, len(given))}, a {type(x).__name__}, has dt={x.dt:g} ms, the network has "
                    f"dt={dt:g} ms; build it with dt={dt:g} * u.ms"
                )
            draws.append(functools.partial(_of_source, x, batch))
        elif callable(x):
            of_time = _takes_time(x)
            draws.append(functools.partial(_of_time, x, dt, input_shape(net), like, taker) if of_time else x)
        else:
            read = _read(x, _which(i, len(given)), None, T, like, dt)
            if isinstance(read, Tensor):
                raise _ambiguous(read, _which(i, len(given)), T, "and beside a function or a source it is not tried")
            draws.append(functools.partial(_of_tensor, read, start))

    def drawn(*span: Any) -> tuple[Tensor, ...]:
        rows = [draw(*span) for draw in draws]
        found = rows[0] if len(rows) == 1 and isinstance(rows[0], tuple) else rows
        return tuple(as_tensor(x, like, taker if len(found) == 1 else None) for x in found)

    return drawn


def _of_source(source: Any, batch: tuple[int, ...], first: int, n: int, generator: torch.Generator) -> Tensor:
    return source.rows(first, n, *batch, generator=generator)


def _of_tensor(given: Timed, start: int, first: int, n: int, generator: torch.Generator) -> Tensor:
    """Rows for a whole block, which may begin before the run and end after it."""
    if not given.varies:
        return given.value.expand(n, *given.value.shape)
    steps = torch.arange(first - start, first - start + n, device=given.value.device)
    return given.value[(steps // given.every).clamp(0, len(given.value) - 1)]


def _of_time(
    f: Callable[[u.Quantity], Any],
    dt: float,
    shape: tuple[int, ...] | None,
    like: Tensor,
    taker: Dynamics | None,
    first: int,
    n: int,
    generator: torch.Generator,
) -> Tensor:
    """The rows of a function of the time at which a step begins; a single number is meant for all neurons."""
    found = [as_tensor(_called(f, u.quantity(i * dt, "ms")), like, taker) for i in range(first, first + n)]
    for i, row in enumerate(found):
        if row.shape != found[0].shape:
            before, now = ((first + k) * dt for k in (i - 1, i))
            raise ValueError(
                f"simulate: the input f(t) has shape {tuple(row.shape)} at t = {now:g} ms, and "
                f"{tuple(found[i - 1].shape)} at {before:g} ms; return one shape at all times, such as "
                "torch.zeros(shape) where there is no input"
            )
    rows = torch.stack(found)
    if rows.dim() > 1 or shape is None:
        return rows
    return rows.view(n, *(1 for _ in shape)).expand(n, *shape)


def _called(f: Callable[[u.Quantity], Any], t: u.Quantity) -> Any:
    """The input at a time.

    Raises:
        TypeError: the function takes the time, a quantity, for a number.
    """
    try:
        return f(t)
    except (TypeError, ValueError) as error:
        if not (isinstance(error, pint.DimensionalityError) or "Quantity" in str(error)):
            raise
        raise TypeError(
            f"simulate: the input f(t) fails at t = {t.m_as('ms'):g} ms: {error}. t is a quantity: compare it with "
            "another, t > 5 * u.ms, and take its number by u.to_canonical(t), in ms"
        ) from error


def _takes_time(f: Callable[..., Any]) -> bool:
    """Whether a function takes the time alone, and not a span of steps and a generator.

    Raises:
        TypeError: it takes neither.
    """
    try:
        signature = inspect.signature(f)
    except ValueError:  # some functions written in C have none
        return False
    for arguments in ((0, 1, None), (0,)):
        with contextlib.suppress(TypeError):
            signature.bind(*arguments)
            return len(arguments) == 1
    raise TypeError(
        f"simulate: inputs is a function of {signature}, wanted f(first, steps, generator), which gives the rows of "
        "these steps, or f(t), which gives the input of the step that begins at the time t, a quantity"
    )


def as_tensor(value: Any, like: Tensor, taker: Dynamics | None = None) -> Tensor:
    """A tensor as it is; numbers, arrays and quantities in canonical units, with the dtype and device of `like`.

    Raises:
        TypeError: something else.
        pint.DimensionalityError: a quantity of another dimension than `taker` takes.
    """
    if u.is_quantity(value):
        _check_unit(value, taker)
        own = isinstance(value.magnitude, Tensor)
        value = u.to_canonical(value)
        if isinstance(value, Tensor) and not (own and value.is_floating_point()):
            value = value.to(like)
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float, np.ndarray, np.generic)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        array = np.array(value, dtype=np.float64 if number else None)
        if array.dtype.kind in "biuf":
            found = torch.as_tensor(array, device=like.device)
            return found.to(like.dtype) if array.dtype.kind == "f" else found
    raise TypeError(
        f"simulate: an input is a {type(value).__name__}, wanted a tensor, an array, a number, a quantity such as "
        "0.3 * u.nA, a source such as nd.PoissonSpike, a function f(t) or f(first, steps, generator), or a tuple of "
        "these"
    )


def _first(net: nn.Module) -> nn.Module | None:
    """The module that gets the input as it is given; None if that does not show without running it."""
    first = net
    while type(first).forward is nn.Sequential.forward and len(first._modules):
        first = next((m for m in first.children() if not isinstance(m, nn.Identity)), first)
    return None if first._forward_pre_hooks or net._forward_pre_hooks else first  # hooks may change it


def _taker(net: nn.Module) -> Dynamics | None:
    """The model whose step gets the input as it is given."""
    first = _first(net)
    return first if isinstance(first, Dynamics) and type(first).forward is Dynamics.forward else None


def _check_unit(given: Any, taker: Dynamics | None) -> None:
    """Refuse a quantity of another dimension than the step of `taker` takes, if it says its unit."""
    if taker is None:
        return
    named = taker.input_units.get(next(iter(inspect.signature(taker.step).parameters), ""))
    if named is None or given.dimensionality == (unit := u.canonical_unit(named)).dimensionality:
        return
    raise pint.DimensionalityError(
        given.units,
        unit,
        a_dimension(given.units),
        a_dimension(unit),
        extra_msg=f": {taker._label()}: input, got {given.units:~}; takes {unit:~}, for example {example_in(unit)}",
    )


def input_shape(net: nn.Module) -> tuple[int, ...] | None:
    """The one shape that a step of `net` takes; None if that does not show without running it."""
    first = _first(net)
    if isinstance(first, Dynamics) and first.states and type(first).forward is Dynamics.forward:
        return (*first.batch, *first.input_size)
    if type(first) is nn.Linear:
        return (*named_dynamics(net)[0][1].batch, first.in_features)
    return None


def _by_shape(shape: tuple[int, ...], wanted: tuple[int, ...] | None, T: int) -> bool | None:
    """Whether an input with this shape varies; None if it may or may not."""
    if wanted is not None and shape == wanted:
        return False
    if wanted is not None and shape[1:] == wanted:
        return True
    return None if shape[0] == T else False


def _tried(net: nn.Module, given: list[Timed | Tensor], T: int) -> list[Timed | Tensor]:
    """The marks with which a step works."""
    unclear = [i for i, x in enumerate(given) if isinstance(x, Tensor)]
    first, which = given[unclear[0]], _which(unclear[0], len(given))
    if len(unclear) > _MOST_TRIED:
        raise _ambiguous(first, which, T, f"and {len(unclear)} inputs of this kind are too many to try")
    working: list[tuple[list[Timed | Tensor], Any]] = []
    for choice in itertools.product((False, True), repeat=len(unclear)):
        marked = list(given)
        for i, varies in zip(unclear, choice, strict=True):
            marked[i] = Timed(given[i], varies)
        try:
            twin = copy_of(net)
        except Exception as error:  # it runs whatever code the network has
            why = f"and neither can be tried, as the network cannot be copied ({type(error).__name__}: {error})"
            raise _ambiguous(first, which, T, why) from error
        row: Any = [x.value[0] if x.varies else x.value for x in marked]  # type: ignore[union-attr]
        try:
            with Watching(twin, strict=False):  # also what the step does to other objects is undone
                seen = step_of(twin, row)
        except NotCompilable as reason:
            raise _ambiguous(first, which, T, f"and neither can be tried, as {reason}") from reason
        if seen is not None:
            working.append((marked, seen))
    if not working:
        return marked  # all series, whose first step will say what is wrong
    chosen, seen = working[0]
    if T > 1 or not all(equal(other, seen) for _, other in working):
        for i in unclear:
            if any(marked[i].varies != chosen[i].varies for marked, _ in working):  # type: ignore[union-attr]
                raise _ambiguous(given[i], _which(i, len(given)), T, "and a step works with both")
    return chosen


def _ambiguous(given: Any, which: str, T: int, why: str) -> ValueError:
    shape = tuple(given.shape)
    return ValueError(
        f"simulate: {which} of shape {shape} can be read as a constant, {shape} in every step, or as a "
        f"series with a row of shape {shape[1:]} for each of the {T} steps, {why}; say which: nd.constant(x) or "
        "nd.series(x)"
    )


def _which(i: int, n: int) -> str:
    return "the input" if n == 1 else f"input {i + 1} of {n}"
