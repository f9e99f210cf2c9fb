"""Simulation of a population that is split over processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.states import get_states, held_states, named_dynamics, pure, set_states
from ..neurons.base import Firing
from ..ops import event
from ..record import Events, Recording, Trace
from ..run.block_run import Run
from ..run.input_rows import Rows
from ..run.kept import events_of, is_events
from ..run.probe import Probe, unit_of
from ..run.reading import read_inputs
from ..run.simulate import prepare
from .data_parallel import _check_initialised
from .split import Exchange, mine, split, unfold


def simulate(
    net: nn.Module,
    duration: Any,
    inputs: Any = None,
    record: Iterable[str] = (),
    *,
    batch: int | tuple[int, ...] = (),
    states: Mapping[str, Tensor] | None = None,
    start: int = 0,
    seed: int = 0,
    compile: bool = True,
) -> Recording:
    """`neurodyn.simulate` with the neurons split over the processes of torch.distributed.

    Every process builds the same whole `net` and calls this with the same arguments. It keeps some of the neurons and
    the synapses onto them, and sends the spikes of its own neurons to the others once per shortest delay. Each process
    returns the whole recording, and in each the final states of the whole network stay in `net`.

    What must be true of `net`, and is tried out for one step before the start: spikes reach other neurons through an
    `nd.Delay` of the size of their population, ``read`` before it is called with the spikes of the step; neurons,
    connections and readouts treat each neuron by itself. Inputs and the tensors of `net` that have one value for each
    neuron in the last dimension are cut as the neurons are.

    Args:
        net, duration, inputs, batch, states, start, seed, compile: see `neurodyn.simulate`.
        record: names as for `neurodyn.simulate`.

    Raises:
        RuntimeError: torch.distributed is not initialised.
        ValueError: a network that cannot be split; the message names the module.
    """
    _check_initialised("simulate")
    unfold(net)
    dt, T = prepare(net, duration, states, batch, start)
    _check_same(net)
    record = (record,) if isinstance(record, str) else tuple(record)
    rows = Rows(read_inputs(net, inputs, T, start), T, start, seed)
    whole = Probe(net, record, inputs is not None)
    probe, cut = _split(whole, rows)
    set_states(probe, cut.states(get_states(whole)))
    run = Run(probe, cut.rows(rows.sample), compile)
    window = min(exchange.least for exchange in probe.exchanges.values())
    run.chunk = max(k for k in range(1, run.chunk + 1) if window % k == 0)
    kept: dict[str, list[Any]] = {name: [] for name in record}
    for first in range(start, start + T, window):
        sent: dict[str, list[Tensor]] = {name: [] for name in probe.exchanges}
        for begin in range(first, min(first + window, start + T), run.block):
            n = min(run.block, first + window - begin, start + T - begin)
            for name, out in run(cut.rows(rows(begin, n)), n).items():
                if name in sent:
                    sent[name].append(out.clone())
                else:
                    kept[name].append(events_of(out, begin) if is_events(name) else out.clone())
        for name, parts in sent.items():
            gathered = cut.spikes(name, torch.cat(parts))
            for k in range(len(gathered)):
                run.states[f"{name}.past{k + 1}"] = gathered[len(gathered) - 1 - k]
    records = {name: cut.record(name, kept[name], dt, start, start + T) for name in record}
    final = {name.removeprefix("net."): cut.whole(name, value) for name, value in run.states.items()}
    set_states(net, final)
    return Recording(records, dict(final), start + T)


def _check_same(net: nn.Module) -> None:
    """Refuse networks that differ between the processes, by the sum of each tensor."""
    tensors = dict(net.named_parameters()) | dict(net.named_buffers()) | held_states(net)
    with torch.no_grad():
        sums = torch.stack([value.sum(dtype=torch.float64) for value in tensors.values()])
    found = [torch.empty_like(sums) for _ in range(dist.get_world_size())]
    dist.all_gather(found, sums)
    for name, *values in zip(tensors, *(x.tolist() for x in found), strict=True):
        if any(value != values[0] for value in values):
            raise ValueError(
                f"nd.distributed.simulate: {name} differs between the processes; build the same network in each, from "
                "the same seed"
            )


class _PartProbe(Probe):
    """As `Probe`; what was sent to each `Exchange` is an output too."""

    def __init__(self, part: nn.Module, probe: Probe):
        super().__init__(part, probe.wanted, probe.driven)
        self.exchanges = {name: m for name, m in named_dynamics(self) if isinstance(m, Exchange)}

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        outs = super().forward(*inputs)
        return outs | {name: vars(module).pop("sent") for name, module in self.exchanges.items()}


def _split(whole: Probe, rows: Rows) -> tuple[_PartProbe, _Cut]:
    """The part of this process, tried out beside the whole for one step.

    For the trial spikes are put on their way at random, and half of the neurons above threshold.
    """
    name = type(whole.net).__name__
    part, sizes = split(whole.net)
    probe = _PartProbe(part, whole)
    if not probe.exchanges:
        raise ValueError(f"nd.distributed.simulate: {name} has no nd.Delay, through which spikes could be sent")
    cut = _Cut(whole, probe, sizes)
    held, sample = get_states(whole), tuple(x[0] for x in rows.sample)
    random = torch.Generator().manual_seed(0)
    for key in cut.past:
        held[key] = (torch.rand(held[key].shape, generator=random) < 0.5).to(held[key])
    for path, module in named_dynamics(whole):
        if isinstance(module, Firing) and (V := held.get(f"{path}.V")) is not None:
            draws = torch.rand(V.shape, generator=random).to(V)
            held[f"{path}.V"] = module.V_reset + 2 * draws * module.gap
    with torch.no_grad():
        outs, new = pure(whole, held, *sample)
        try:
            own_outs, own = pure(probe, cut.states(held), *cut.rows(sample))
        except Exception as error:
            parts = ", ".join(f"{mine(n).stop - mine(n).start} of {n}" for n in sorted(sizes))
            raise ValueError(
                f"nd.distributed.simulate: {name} cannot be split; its step with {parts} neurons fails: {error}"
            ) from error
    wanted = cut.states(new) | {key: cut.part(value) for key, value in outs.items()}
    found = own | {key: own_outs[key] for key in outs}
    for key in wanted.keys() - cut.past:
        x, y = wanted[key], found[key]
        if x.shape != y.shape or not torch.allclose(x, y, 1e-4, 1e-6, equal_nan=True):
            raise ValueError(
                f"nd.distributed.simulate: {name} cannot be split: {key.removeprefix('net.')} of the part is not that "
                "of the whole network after one step; a neuron may depend on others only through nd.Delay"
            )
    cut.shapes = {key: tuple(value.shape) for key, value in outs.items()}
    return probe, cut


class _Cut:
    """From whole tensors to those of this process and back.

    Attributes:
        past: states that hold the spikes of all processes.
        full: states that are whole in every process, `past` among them.
        shapes: of the recorded tensors.
    """

    def __init__(self, whole: Probe, probe: _PartProbe, sizes: set[int]):
        self.probe, self.sizes, self.capacity = probe, sizes, 256
        self.past = {f"{name}.past{k + 1}" for name, m in probe.exchanges.items() for k in range(m.length)}
        own = dict(named_dynamics(probe))
        self.full = {f"{path}.{k}" for path, m in named_dynamics(whole) if own[path].size == m.size for k in m.states}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def part(self, value: Tensor) -> Tensor:
        return value[..., mine(value.shape[-1])]

    def states(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value if name in self.full else self.part(value).clone() for name, value in states.items()}

    def rows(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.part(x) if x.dim() and x.shape[-1] in self.sizes else x for x in rows)

    def whole(self, name: str, value: Tensor) -> Tensor:
        return value.clone() if name in self.full else _gather_parts(value)

    def spikes(self, name: str, sent: Tensor) -> Tensor:
        """The spikes of all processes, ``(steps, *batch, n)``; only the positions of spikes are sent."""
        n = self.probe.exchanges[name].size[0]
        found = event.nonzero(sent)
        if not bool((sent.flatten()[found] == 1).all()):
            raise ValueError(f"nd.distributed.simulate: {name} carries values other than 0 and 1; only spikes are sent")
        positions, self.capacity = _gather_lists(found, self.capacity)
        whole = sent.new_zeros((*sent.shape[:-1], n))
        world = dist.get_world_size()
        for rank, position in enumerate(positions):
            first, size = n * rank // world, n * (rank + 1) // world - n * rank // world
            row = position.div(size, rounding_mode="floor")
            whole.view(-1)[row * n + first + position - row * size] = 1
        return whole

    def record(self, name: str, parts: list[Any], dt: float, start: int, stop: int) -> Trace | Events:
        if not is_events(name):
            values = torch.cat(parts)
            return Trace(values if name in self.full else _gather_parts(values), unit_of(self.probe, name), start, dt)
        shape = self.shapes[name]
        n, own = shape[-1], mine(shape[-1])
        steps, neurons = (torch.cat(column) for column in zip(*parts, strict=True))
        row = neurons.div(own.stop - own.start, rounding_mode="floor")
        neurons = row * n + own.start + neurons - row * (own.stop - own.start)
        steps, neurons = (torch.cat(_gather_lists(column, 0)[0]) for column in (steps, neurons))
        order = (steps * max(1, torch.Size(shape).numel()) + neurons).argsort()
        return Events(steps[order], neurons[order], shape, start, stop, dt)


def _gather_parts(value: Tensor) -> Tensor:
    """The values of all processes, side by side in the last dimension."""
    count = torch.tensor([value.shape[-1]])
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    longest = max(int(c) for c in counts)
    padded = nn.functional.pad(value, (0, longest - value.shape[-1])).contiguous()
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([x[..., : int(c)] for x, c in zip(found, counts, strict=True)], -1)


def _gather_lists(values: Tensor, capacity: int) -> tuple[list[Tensor], int]:
    """The lists of all processes: in one message each if none is longer than `capacity`, else in two."""
    while True:
        message = values.new_zeros(capacity + 1, dtype=torch.int64)
        message[0] = len(values)
        message[1 : 1 + len(values)] = values[:capacity]
        found = message.new_empty(dist.get_world_size(), capacity + 1)
        dist.all_gather(list(found), message)
        lengths = found[:, 0].tolist()
        if max(lengths) <= capacity:
            return [row[1 : 1 + length] for row, length in zip(found, lengths, strict=True)], capacity
        capacity = 2 * max(lengths)
