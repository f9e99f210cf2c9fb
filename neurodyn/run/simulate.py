"""`simulate`: run a network for a time, without gradients and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from .. import units as u
from ..core.states import check_dt, reset_states, set_states, settle
from ..inputs.clock import Clock
from ..record import Recording
from ..tools.progress import bar as progress_bar
from .block_run import Run
from .calls import Calls, steps_in
from .input_rows import Rows, blocks
from .kept import Kept, check_start
from .not_a_number import Watch
from .population import PopulationMean
from .probe import Probe
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
    every: Any = (),
    until: Any = (),
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
            function ``f(t)`` gives the input of the step that begins at the time t, a quantity. Sources do as well
            (`PoissonSpike`, `PoissonInput`, `SpikeTime`), arrays, quantities, and a single number, which all neurons
            get. A tuple of these for several arguments; None if `net` takes nothing. If a step of `net` works both with
            the whole tensor and with one of its rows, `nd.constant(x)` or `nd.series(x)` says what is meant.
        record: names of states, such as "N.V"; names in the output, if `net` returns a dict; "output" or "spikes" for
            an output that is one tensor. Names that end in "spikes" become `Events`, others `Trace`. A mapping gives
            for each name the neurons to keep: an index into the last dimension, or None for all; the record keeps
            their numbers. Or it gives a name of your own with a `PopulationRate` or `PopulationMean`, which keep no
            more than one value for a population in a bin.
        batch: the batch shape of the states; taken from `states` if those are given.
        states: where to start, as `get_states` gives them; by default from `reset_states`.
        start: number of steps already done; the first step is at ``start * dt``.
        seed: of the random numbers of `inputs`, together with the step.
        trace_dt: traces keep one value in this time, that at its end; a multiple of dt (ms). Spikes are all kept.
        every: ``(interval, function)``, or a list of such pairs. ``function(net, t)`` is called when a multiple of the
            interval has passed, not at the start; t is the time, a quantity. The states are in `net`, where they may
            be set, and parameters may get other values.
        until: ``(interval, condition)``, or a list of such pairs. The run ends after the first step at which a
            ``condition(net, t)`` is true; it is asked as `every` calls, after those functions. Records end there, and
            ``recording.step`` says where.
        progress: show a progress bar, if tqdm is installed and the terminal is interactive.
        compile: False runs step by step in Python.

    Warns:
        NaNWarning: a state has become NaN; it names the layer, the state and the step.

    Raises:
        KeyError: a name in `record` that is neither a state nor an output.
        ValueError: a duration, an interval or a `trace_dt` that is no multiple of dt, a start inside a `trace_dt`,
            inputs with another number of steps, inputs that may be a constant or a series, a function that changes the
            shape of a state.
        TypeError: inputs that are no tensors, arrays, numbers or quantities; an `every` that is no pair.
    """
    dt, T = prepare(net, duration, states, batch, start)
    calls, stop = Calls(net, dt, every, until), start + T
    probe = Probe(net, record, inputs is not None)
    steps = 1 if trace_dt is None else steps_in(trace_dt, dt, "trace_dt")
    kept = {name: Kept(probe, name, dt, _steps_of(name, what, dt, steps)) for name, what in probe.wanted.items()}
    check_start(start, [*kept.values()])
    rows = Rows(read_inputs(net, inputs, T, start), T, start, seed)
    watch = Watch(net, dt)
    try:
        run = Run(probe, rows.sample, compile, calls.periods)
        with progress_bar(T, wanted=progress) as bar:
            for first, n in blocks(start, start + T, run.block, *calls.periods):
                given, before = rows(first, n), run.states
                for name, out in run(given, n).items():
                    kept[name].add(out, first)
                watch(_of_net(before), _of_net(run.states), given, first, n, _of_net(dict.fromkeys(run.in_place)))
                bar.update(n)
                if calls.due(first + n):
                    run.pause(lambda step=first + n: calls(step))
                    if calls.over:
                        stop = first + n
                        break
    except Exception as error:
        rows.explain(error)
        raise
    records = {name: one.record(start, stop) for name, one in kept.items()}
    final = {name: value.clone() for name, value in _of_net(run.states).items()}
    set_states(net, {name: value.clone() for name, value in final.items()})  # apart from those of the recording
    return Recording(records, final, stop)


def _steps_of(name: str, what: Any, dt: float, every: int) -> int:
    """In how many steps a record keeps one value."""
    return steps_in(what.bin * u.ms, dt, f"the bin of {name!r}") if isinstance(what, PopulationMean) else every


def _of_net(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states of a probe by their names in the network."""
    return {name.removeprefix("net."): value for name, value in states.items()}


def prepare(
    net: nn.Module,
    duration: Any,
    states: Mapping[str, Tensor] | None,
    batch: int | tuple[int, ...],
    start: int = 0,
) -> tuple[float, int]:
    """Give `net` the states to start from, and its clocks the time; dt and the number of steps."""
    dt = check_dt(net)
    settle(net)
    T = steps_in(duration, dt)
    sizes = batch if isinstance(batch, (tuple, list)) else (batch,)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"simulate: batch must be a whole number or a tuple of them, got {batch!r}")
    if states is None:
        reset_states(net, *sizes)
    else:
        set_states(net, {name: value.clone() for name, value in states.items()})
    for module in net.modules():
        if isinstance(module, Clock):
            module.set_steps(start)
    return dt, T
