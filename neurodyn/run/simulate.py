"""`simulate`: run a network for a time, without gradients and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.fields import check
from ..core.states import check_dt, get_states, named_dynamics, reset_states, set_states
from ..ops import event
from ..record import Events, Recording, Trace
from ..tools.progress import bar as progress_bar
from .block_run import Run
from .input_rows import Rows, blocks
from .not_a_number import Watch
from .reading import read_inputs


def simulate(
    net: nn.Module,
    duration: Any,
    inputs: Any = None,
    record: Iterable[str] | Mapping[str, Any] = (),
    *,
    batch: int | tuple[int, ...] = (),
    states: Mapping[str, Tensor] | None = None,
    start: int = 0,
    seed: int = 0,
    trace_dt: Any = None,
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
            tuple of such tensors for several arguments. None if `net` takes nothing. Arrays and quantities do as well,
            and a single number, which all neurons get. If a step of `net` works both with the whole tensor and with
            one of its rows, `nd.constant(x)` or `nd.series(x)` says what is meant.
        record: names of states, such as "N.V"; names in the output, if `net` returns a dict; "output" or "spikes" for
            an output that is one tensor. Names that end in "spikes" become `Events`, others `Trace`. A mapping gives
            for each name the neurons to keep: an index into the last dimension, or None for all.
        batch: the batch shape of the states; taken from `states` if those are given.
        states: where to start, as `get_states` gives them; by default from `reset_states`.
        start: number of steps already done; the first step is at ``start * dt``.
        seed: of the random numbers of `inputs`, together with the step.
        trace_dt: traces keep one value in this time, that at its end; a multiple of dt (ms). Spikes are all kept.
        progress: show a progress bar, if tqdm is installed and the terminal is interactive.
        compile: False runs step by step in Python.

    Warns:
        NaNWarning: a state has become NaN; it names the layer, the state and the step.

    Raises:
        KeyError: a name in `record` that is neither a state nor an output.
        ValueError: a duration or a `trace_dt` that is no multiple of dt, a start inside a `trace_dt`, inputs with
            another number of steps, inputs that may be a constant or a series.
        TypeError: inputs that are no tensors, arrays, numbers or quantities.
    """
    dt, T = prepare(net, duration, states, batch)
    every = 1 if trace_dt is None else steps_in(trace_dt, dt, "trace_dt")
    if start % every:
        raise ValueError(f"simulate: start={start} is inside a trace_dt of {every} steps; wanted a multiple of {every}")
    probe = Probe(net, record, inputs is not None)
    rows = Rows(read_inputs(net, inputs, T), T, start, seed)
    kept: dict[str, list[Any]] = {name: [] for name in probe.wanted}
    watch = Watch(net, dt)
    try:
        run = Run(probe, rows.sample, compile)
        with progress_bar(T, wanted=progress) as bar:
            for first, n in blocks(start, start + T, run.block):
                given, before = rows(first, n), run.states
                for name, out in run(given, n).items():
                    kept[name].append(
                        events_of(out, first) if is_events(name) else out[-(first + 1) % every :: every].clone()
                    )
                watch(_of_net(before), _of_net(run.states), given, first, n)
                bar.update(n)
    except Exception as error:
        rows.explain(error)
        raise
    records = {
        name: _record(net, name, kept[name], run.outs[name].shape[1:], dt, start, start + T, every) for name in kept
    }
    final = {name: value.clone() for name, value in _of_net(run.states).items()}
    set_states(net, final)
    return Recording(records, dict(final), start + T)


def _of_net(states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The states of a probe by their names in the network."""
    return {name.removeprefix("net."): value for name, value in states.items()}


def prepare(
    net: nn.Module, duration: Any, states: Mapping[str, Tensor] | None, batch: int | tuple[int, ...]
) -> tuple[float, int]:
    """Give `net` the states to start from; dt and the number of steps."""
    dt = check_dt(net)
    T = steps_in(duration, dt)
    if states is None:
        reset_states(net, *((batch,) if isinstance(batch, int) else batch))
    else:
        set_states(net, {name: value.clone() for name, value in states.items()})
    return dt, T


def steps_in(duration: Any, dt: float, name: str = "duration") -> int:
    """The number of steps in a duration, which must be whole."""
    time = float(check(duration, u.canonical_unit("ms"), (), f"simulate: {name}", None, torch.float64))
    T = round(time / dt)
    if T < 1 or abs(time / dt - T) > 1e-6 * T:
        raise ValueError(f"simulate: {name} must be a positive multiple of dt={dt:g} ms, got {time:g} ms")
    return T


class Probe(nn.Module):
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


def is_events(name: str) -> bool:
    """Whether this name is recorded as a list of events."""
    return name.endswith("spikes")


def events_of(out: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Steps and positions of the non-zero elements."""
    position, size = event.nonzero(out), out[0].numel()
    return first + position.div(size, rounding_mode="floor"), position.remainder(size)


def _record(
    net: nn.Module, name: str, parts: list[Any], shape: Any, dt: float, start: int, stop: int, every: int
) -> Any:
    if not is_events(name):
        return Trace(torch.cat(parts), unit_of(net, name), start // every, dt * every, name)
    steps, neurons = (torch.cat(column) for column in zip(*parts, strict=True))
    return Events(steps, neurons, tuple(shape), start, stop, dt, name)


def unit_of(net: nn.Module, name: str) -> pint.Unit:
    """The unit of a state by its name; no unit for an output."""
    path, _, state = name.rpartition(".")
    module = dict(named_dynamics(net)).get(path)
    return u.registry.dimensionless if module is None or state not in module.states else module.state_unit(state)
