"""Measurements that alternate, as a noisy machine needs: every round calls each piece of work once."""

from __future__ import annotations

import ctypes
import gc
import statistics
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neurodyn as nd
from neurodyn import units as u

#: Something to time; or, in its place, the reason why it cannot be.
Work = Callable[[], Any] | str

#: Of the neurons, as when the numbers in docs/benchmarks.md were measured; they are those of brainstate.
RECORDED: dict[str, Any] = {"R": 1 * u.Gohm, "surrogate": nd.surrogate.ReluGrad()}


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        rounds: calls of each piece of work.
        threads: of every library.
        toy: tiny sizes, to try the benchmarks themselves.
        peers: the folder that `peers.sh` filled; None to leave the peers out.
        cpu: take the time of the processor and not that of the clock, for one thread on a loaded machine.
        ecg: the folder of the ECG recordings, for `accuracy`.
        tasks: of `accuracy`; all if empty.
    """

    rounds: int = 11
    threads: int = 2
    toy: bool = False
    peers: Path | None = None
    cpu: bool = False
    ecg: Path | None = None
    tasks: tuple[str, ...] = ()

    def size(self, real: int, toy: int) -> int:
        """A size of the question, or its toy."""
        return toy if self.toy else real


class Milliseconds(float):
    """The time of a call that measured itself, as one in another process does."""


@dataclass
class Comparison:
    """Times, or other costs, of several ways to do the same.

    Attributes:
        title: the question.
        costs: of each way, by round; the first is what the others are compared to.
        bars: for a way, the ratio to the first that is wanted at least.
        absent: for a way that was not measured, the reason.
        unit: of the costs.
    """

    title: str
    costs: dict[str, list[float]]
    bars: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    unit: str = "ms"

    def ratios(self, name: str) -> tuple[float, float, float]:
        """Quartiles, the median in the middle, of the cost of `name` over that of the first, round by round."""
        first = next(iter(self.costs.values()))
        values = [cost / own for cost, own in zip(self.costs[name], first, strict=True)]
        if len(values) == 1:
            return values[0], values[0], values[0]
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, middle, high

    def __str__(self) -> str:
        """A table of 80 columns: median, least, and per round the ratio to the first."""
        lines = [
            *textwrap.wrap(self.title, 80),
            f"{'':28}{self.unit:>12}{'least':>9}{'ratio':>8}  {'quartiles':14}{'bar':>6}",
        ]
        for name, costs in self.costs.items():
            low, middle, high = self.ratios(name)
            bar = f"{self.bars[name]:.3g}" if name in self.bars else ""
            if bar and middle < self.bars[name]:
                bar += " !"
            spread = f"{low:.3g} to {high:.3g}"
            numbers = f"{statistics.median(costs):12.4g}{min(costs):9.4g}{middle:8.3g}"
            lines.append(f"  {name:26}{numbers}  {spread:14}{bar:>6}".rstrip())
        lines += [f"  {name:26}{'-':>12}  {reason}"[:80] for name, reason in self.absent.items()]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """What goes into the JSON file."""
        ways = {
            name: {
                "median": statistics.median(costs),
                "least": min(costs),
                "ratio": self.ratios(name)[1],
                "quartiles": [self.ratios(name)[0], self.ratios(name)[2]],
                "bar": self.bars.get(name),
                "rounds": costs,
            }
            for name, costs in self.costs.items()
        }
        return {"title": self.title, "unit": self.unit, "ways": ways, "absent": self.absent}


def keep_memory() -> None:
    """Make glibc keep freed memory, for all libraries in this process alike.

    Otherwise a tensor of some megabytes may or may not be given back to the system, and page faults make the same call
    take one time or three times as long.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: large tensors too come from memory that is kept
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def measure(call: Callable[[], Any], cpu: bool = False) -> float:
    """Milliseconds of one call."""
    clock = time.process_time if cpu else time.perf_counter
    start = clock()
    result = call()
    elapsed = 1e3 * (clock() - start)
    return float(result) if isinstance(result, Milliseconds) else elapsed


def alternate(title: str, work: dict[str, Work], options: Options, bars: dict[str, float] | None = None) -> Comparison:
    """Time each piece of work, one call of each per round, after two calls that are not counted.

    The first is ours and must run; any other that fails is reported as absent.
    """
    ours = next(iter(work))
    absent = {name: call for name, call in work.items() if isinstance(call, str)}
    calls = {name: call for name, call in work.items() if not isinstance(call, str)}
    for name, call in list(calls.items()):
        try:
            call()
            call()
        except Exception as error:
            if name == ours:
                raise
            absent[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
            del calls[name]
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # looking through all that is there after each round would empty the caches for the first call
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(measure(call, options.cpu))
        gc.collect()
    gc.unfreeze()
    return Comparison(title, times, {k: v for k, v in (bars or {}).items() if k in times}, absent)
