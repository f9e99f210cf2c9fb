"""``neurodyn bench``: how fast the time loop is on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from ..loop import unroll
from ..neurons import LIF
from ..tools.progress import bar

T, BATCH, SIZE = 128, 32, 1024


def bench(device: str = "cpu", rounds: int = 7) -> str:
    """A layer of LIF neurons, compiled and step by step in turn, as a table."""
    layer = LIF(SIZE, device=device)
    generator = torch.Generator().manual_seed(0)
    xs = (0.6 * torch.randn(T, BATCH, SIZE, generator=generator) + 0.1).to(device)
    leaf, weight = xs.clone().requires_grad_(), torch.rand(T, BATCH, SIZE, generator=generator).to(device)

    def forward(compile: bool) -> None:
        with torch.no_grad():
            unroll(layer, xs, compile=compile)

    def both(compile: bool) -> None:
        torch.autograd.grad(unroll(layer, leaf, compile=compile), leaf, weight)

    def milliseconds(work: Callable[[bool], None], compile: bool) -> float:
        start = time.perf_counter()
        work(compile)
        if xs.is_cuda:
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)

    works: dict[str, Callable[[bool], None]] = {"forward": forward, "forward + backward": both}
    with bar(2 * len(works) * (rounds + 1), unit=" runs") as shown:
        first = {name: milliseconds(work, True) for name, work in works.items()}
        times: dict[tuple[str, bool], list[float]] = {(name, how): [] for name in works for how in (True, False)}
        for _ in range(rounds + 1):
            for name, how in times:
                times[name, how].append(milliseconds(works[name], how))
                shown.update()
    rows = [f"{'':20}{'compiled':>12}{'step by step':>15}{'ratio':>8}{'first call':>13}"]
    for name in works:
        fast, slow = times[name, True][1:], times[name, False][1:]
        ratio = statistics.median(b / a for a, b in zip(fast, slow, strict=True))
        cells = f"{statistics.median(fast):9.2f} ms{statistics.median(slow):12.2f} ms{ratio:8.1f}"
        rows.append(f"{name:20}{cells}{first[name] / 1e3:11.1f} s")
    where = torch.cuda.get_device_name(xs.device) if xs.is_cuda else f"CPU, {torch.get_num_threads()} of its threads"
    title = f"LIF layer: {T} steps, batch {BATCH}, {SIZE} neurons, float32"
    how = f"medians of {rounds} rounds in turn; the first call traces and compiles"
    return "\n".join([title, f"{where}; torch {torch.__version__}", how, "", *rows])
