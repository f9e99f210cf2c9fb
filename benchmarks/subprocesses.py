"""Measurements that need a process of their own: peak memory, compile time, import time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

#: Prints the peak resident memory, in MB, that `{work}` adds to what `{setup}` took; VmHWM is reset in between.
PEAK = """
import sys, torch
torch.set_num_threads({threads})
{setup}
def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1e3
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = memory("VmRSS")
{work}
print("answer", memory("VmHWM") - before)
"""


def answer(code: str, **environment: str) -> float:
    """The number that `code` prints after the word "answer", run by this Python."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=os.environ | environment
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("answer ")]
    if done.returncode or not lines:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}")
    return float(lines[-1].split()[1])


def attempt(measure: Callable[[], float]) -> float | str:
    """A number, or why there is none."""
    try:
        return measure()
    except RuntimeError as error:
        missing = str(error).startswith("ModuleNotFoundError")
        return "not installed, see benchmarks/peers.sh" if missing else str(error)
