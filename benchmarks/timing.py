"""Alternating measurements on a noisy machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def alternate(work: dict[str, Callable[[], object]], rounds: int = 15) -> dict[str, list[float]]:
    """Milliseconds of each piece of work, one call of each per round, after two calls that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for call in work.values():
        call()
        call()
    for _ in range(rounds):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def table(times: dict[str, list[float]], ours: str) -> str:
    """Median milliseconds and, per round, the ratio to `ours`: median and quartiles."""
    lines = [f"{'':34}{'ms':>10}{'ratio':>9}  (quartiles)"]
    for name, values in times.items():
        ratios = [theirs / mine for theirs, mine in zip(values, times[ours], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"{name:34}{statistics.median(values):10.2f}{middle:9.2f}  ({low:.2f} to {high:.2f})")
    return "\n".join(lines)
