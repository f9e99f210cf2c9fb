"""How many files of the time loop (folders loop, engine, purity) a call of `unroll` crosses, the first and a later one.

``python -m benchmarks.files_crossed`` prints them in the order of their first call, with the calls from another file.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import neurodyn as nd

PACKAGE = Path(nd.__file__).parent
FOLDERS = tuple(str(PACKAGE / name) for name in ("loop", "engine", "purity"))


def crossed(function: Any) -> Counter[str]:
    """The files in which a Python function runs, with the calls that come from another file."""
    found: Counter[str] = Counter()

    def see(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(FOLDERS):
            caller = frame.f_back
            found[file] += caller is None or caller.f_code.co_filename != file

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return Counter({str(Path(file).relative_to(PACKAGE)): n for file, n in found.items()})


def network() -> nn.Module:
    """That of the README, smaller."""
    return nn.Sequential(nn.Linear(20, 30), nd.LIF(30), nn.Linear(30, 10), nd.LeakyRateReadout(10, 4))


def train(net: nn.Module, xs: torch.Tensor) -> None:
    """A forward and a backward pass."""
    nd.unroll(net, xs).sum().backward()


if __name__ == "__main__":
    net, xs = network(), torch.rand(16, 3, 20)
    for name in ("first", "second", "warm"):
        counts = crossed(lambda: train(net, xs))
        print(f"{name} call: {len(counts)} files, {sum(counts.values())} calls from one file to another")
        for file, n in counts.items():
            print(f"  {n:6} {file}")
