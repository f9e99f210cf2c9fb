"""`simulate`: run a network for a time, without gradients and in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pint
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from . import units as u
from .connections import event
from .engine.errors import EagerWarning, NotCompilable
from .fields import check
from .progress import bar as progress_bar
from .record import Events, Recording, Trace
from .states import check_dt, constants, get_states, named_dynamics, pure, reset_states, set_states

#: Steps in one compiled chunk, by the length of the chunks that `unroll` would use for the same network.
CHUNK = {8: 20, 4: 20, 2: 10, 1: 5}
_BLOCK_BYTES, _LONGEST_BLOCK = 2**25, 1000


def simulate(
    net: nn.Module,
    duration: Any,
    inputs: Any = None,
    record: Iterable[str] | Mapping[str, Any] = (),
    *,
    batch: tuple[int, ...] = (),
    states: Mapping[str, Tensor] | None = None,
    start: int = 0,
    seed: int = 0,
    progress: bool = True,
    compile: bool = True,
) -> Recording:
    """Run `net` for `duration` without gradients, in compiled chunks; memory does not grow except by what is recorded.

    The final states stay in the network. To go on later, save ``recording.states`` and ``recording.step`` and pass
    them as `states` and `start`; the spikes are those of a simulation without the stop.

    Args:
        net: any module; its forward takes one step.
        duration: a time, a multiple of dt.
        inputs: for each step, what `net` takes: a tensor with one row for each step, a tensor without time that stays
            the same, or ``f(first, steps, generator)``, which gives the rows of that many steps from step `first` on;
            draw random inputs from `generator`. It is asked for whole blocks of steps, the last one beyond the end. A
            tuple of such tensors for several arguments. None if `net` takes nothing.
        record: names of states, such as "N.V"; names in the output, if `net` returns a dict; "output" or "spikes" for
            an output that is one tensor. Names that end in "spikes" become `Events`, others `Trace`. A mapping gives
            for each name the neurons to keep: an index into the last dimension, or None for all.
        batch: the batch shape of the states; taken from `states` if those are given.
        states: where to start, as `get_states` gives them; by default from `reset_states`.
        start: number of steps already done; the first step is at ``start * dt``.
        seed: of the random numbers of `inputs`, together with the step.
        progress: show a progress bar, if tqdm is installed and the terminal is interactive.
        compile: False runs step by step in Python.

    Raises:
        KeyError: a name in `record` that is neither a state nor an output.
        ValueError: a duration that is no multiple of dt, inputs with another number of steps.
    """
    dt = check_dt(net)
    T = _steps(duration, dt)
    if states is None:
        reset_states(net, *batch)
    else:
        set_states(net, {name: value.clone() for name, value in states.items()})
    probe = _Probe(net, record, inputs is not None)
    rows = _Inputs(inputs, T, start, seed)
    try:
        run = _Run(probe, rows.sample, compile)
    except Exception as error:
        rows.explain(error)
        raise
    kept: dict[str, list[Any]] = {name: [] for name in probe.wanted}
    with progress_bar(T, wanted=progress) as bar:
        for first, n in _blocks(start, start + T, run.block):
            for name, out in run(rows(first, n), n).items():
                kept[name].append(_events(out, first) if _is_events(name) else out.clone())
            bar.update(n)
    records = {name: _record(net, name, kept[name], run.outs[name].shape[1:], dt, start, start + T) for name in kept}
    final = {name.removeprefix("net."): value.clone() for name, value in run.states.items()}
    set_states(net, final)
    return Recording(records, dict(final), start + T)


def _steps(duration: Any, dt: float) -> int:
    time = float(check(duration, u.canonical_unit("ms"), (), "simulate: duration", None, torch.float64))
    T = round(time / dt)
    if T < 1 or abs(time / dt - T) > 1e-6 * T:
        raise ValueError(f"simulate: duration must be a positive multiple of dt={dt:g} ms, got {time:g} ms")
    return T


def _blocks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Spans that end at multiples of `size`, so that they do not depend on where a simulation was stopped."""
    while first < last:
        n = min(size - first % size, last - first)
        yield first, n
        first += n


class _Probe(nn.Module):
    """`net` with what is to be recorded as its output."""

    def __init__(self, net: nn.Module, record: Iterable[str] | Mapping[str, Any], driven: bool):
        super().__init__()
        self.net, self.driven = net, driven
        record = (record,) if isinstance(record, str) else record
        self.wanted = dict(record) if isinstance(record, Mapping) else dict.fromkeys(record)
        for name, index in self.wanted.items():
            if not (index is None or isinstance(index, (int, slice))):  # a buffer can be traced, a tensor cannot
                chosen = torch.as_tensor(index, device=next(iter(get_states(net).values())).device)
                chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
                self.register_buffer(f"index of {name}".replace(".", " "), chosen)

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        y = self.net(*inputs) if self.driven else self.net()
        found = dict(y) if isinstance(y, Mapping) else {"output": y, "spikes": y} if isinstance(y, Tensor) else {}
        found |= get_states(self.net)
        for name in self.wanted:
            if name not in found:
                raise KeyError(f"simulate: there is no {name!r} to record; there are {', '.join(found)}")
        return {name: self._chosen(name, found[name]) for name in self.wanted}

    def _chosen(self, name: str, value: Tensor) -> Tensor:
        index = self._buffers.get(f"index of {name}".replace(".", " "), self.wanted[name])
        return value if index is None else value[..., index]


class _Inputs:
    """The rows of the inputs for any span of steps.

    A function is asked for whole blocks of rows, whose length follows from the size of a row alone, so that the numbers
    it draws depend neither on what is recorded nor on how the steps are run.
    """

    def __init__(self, given: Any, T: int, start: int, seed: int):
        self.given, self.T, self.start, self.seed = given, T, start, seed
        self.generator, self.drawn = torch.Generator(), (-1, ())
        if callable(given):
            self.sample = self._draw(start, 1)
            bytes = sum(x.nbytes for x in self.sample)
            self.block = max(1, min(_LONGEST_BLOCK, _BLOCK_BYTES // max(bytes, 1)))
        else:
            given = () if given is None else given if isinstance(given, tuple) else (given,)
            self.timed = [len(x) == T if x.dim() else False for x in given]
            self.given = given
            self.sample = tuple(x[:1] if timed else x.unsqueeze(0) for x, timed in zip(given, self.timed, strict=True))

    def __call__(self, first: int, n: int) -> tuple[Tensor, ...]:
        if callable(self.given):
            spans = [self._span(begin, size) for begin, size in _blocks(first, first + n, self.block)]
            return spans[0] if len(spans) == 1 else tuple(torch.cat(parts) for parts in zip(*spans, strict=True))
        i = first - self.start
        rows = zip(self.given, self.timed, strict=True)
        return tuple(x[i : i + n] if timed else x.expand(n, *x.shape).contiguous() for x, timed in rows)

    def _span(self, first: int, n: int) -> tuple[Tensor, ...]:
        """Rows inside one block, which is drawn once."""
        i = first % self.block
        if self.drawn[0] != first - i:
            self.drawn = first - i, self._draw(first - i, self.block)
        return tuple(x[i : i + n] for x in self.drawn[1])

    def explain(self, error: Exception) -> None:
        """Add to an error of the first step how the inputs were understood."""
        if not callable(self.given) and not all(self.timed):
            shapes = ", ".join(
                str(tuple(x.shape)) for x, timed in zip(self.given, self.timed, strict=True) if not timed
            )
            error.add_note(
                f"simulate took inputs of shape {shapes} as constant in time; those with a row for each step have "
                f"{self.T} rows"
            )

    def _draw(self, first: int, n: int) -> tuple[Tensor, ...]:
        self.generator.manual_seed((self.seed * 1_000_003 + first) % 2**63)
        rows = self.given(first, n, self.generator)
        rows = rows if isinstance(rows, tuple) else (rows,)
        if any(len(x) != n for x in rows):
            raise ValueError(f"simulate: inputs({first}, {n}, ...) gave {[len(x) for x in rows]} rows, wanted {n}")
        return rows


class _Run:
    """The network under way: calling it runs some steps, at most `block`; `states` is where it stands."""

    def __init__(self, probe: _Probe, sample: tuple[Tensor, ...], compile: bool):
        self.probe, self.states = probe, get_states(probe)
        outs = self._step(self.states, tuple(x[0] for x in sample))[0]
        bytes = sum(x.nbytes for x in (*sample, *outs.values()))
        self.program = self._compiled(sample) if compile else None
        self.chunk = CHUNK[self.program.steps] if self.program else 1
        self.block = max(1, min(_LONGEST_BLOCK, _BLOCK_BYTES // max(bytes, 1)) // self.chunk) * self.chunk
        self.outs = {name: x.new_empty((self.block, *x.shape)) for name, x in outs.items()}

    def __call__(self, rows: tuple[Tensor, ...], n: int) -> dict[str, Tensor]:
        outs = {name: out[:n] for name, out in self.outs.items()}
        with torch.inference_mode():
            if self.program is None:
                self._eager(rows, n, outs)
            else:
                self._chunks(self.program, rows, n, outs)
        return outs

    def _chunks(self, program: Any, rows: tuple[Tensor, ...], n: int, outs: dict[str, Tensor]) -> None:
        from .engine.sequence import Chunks

        fixed, states = list(constants(self.probe).values()), list(self.states.values())
        chunks = Chunks(program, self.probe, n, long=self.chunk)
        xs = chunks.split([x.contiguous() for x in rows or (torch.empty(n, 0),)])
        forward = {size: folded.bind(fixed) for size, folded in chunks.forward.items()}
        for size, x, out in zip(chunks.sizes, xs, chunks.rows(list(outs.values())), strict=True):
            states = [new.contiguous() for new in forward[size](*states, *fixed, *x, *out)]
        self.states = dict(zip(self.states, states, strict=True))

    def _eager(self, rows: tuple[Tensor, ...], n: int, outs: dict[str, Tensor]) -> None:
        for t in range(n):
            y, self.states = self._step(self.states, tuple(x[t] for x in rows))
            for name, out in outs.items():
                out[t] = y[name]

    def _step(self, states: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Any, dict[str, Tensor]]:
        with torch.no_grad():
            return pure(self.probe, states, *inputs)

    def _compiled(self, sample: tuple[Tensor, ...]) -> Any:
        step = [x[0] for x in sample] or [torch.empty(0)]
        _, spec = pytree.tree_flatten(tuple(step))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Inductor's own imports, at the first use
            from .engine.programs import program_for

        try:
            return program_for(self.probe, step, spec)
        except NotCompilable as reason:
            warnings.warn(f"simulate runs step by step in Python: {reason}", EagerWarning, stacklevel=3)
            return None


def _is_events(name: str) -> bool:
    return name.endswith("spikes")


def _events(out: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Steps and positions of the non-zero elements."""
    position, size = event.nonzero(out), out[0].numel()
    return first + position.div(size, rounding_mode="floor"), position.remainder(size)


def _record(net: nn.Module, name: str, parts: list[Any], shape: Any, dt: float, start: int, stop: int) -> Any:
    if not _is_events(name):
        return Trace(torch.cat(parts), _unit(net, name), start, dt, name)
    steps, neurons = (torch.cat(column) for column in zip(*parts, strict=True))
    return Events(steps, neurons, tuple(shape), start, stop, dt, name)


def _unit(net: nn.Module, name: str) -> pint.Unit:
    path, _, state = name.rpartition(".")
    module = dict(named_dynamics(net)).get(path)
    field = module.states.get(state) if module is not None else None
    return (
        module.params[field.initializer].unit if module is not None and field is not None else u.registry.dimensionless
    )
