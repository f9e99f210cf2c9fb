"""``python -m benchmarks [NAME ...]``: measure, print tables, write JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any

NAMES = (
    "layer",
    "chain",
    "recurrent",
    "convolution",
    "streaming",
    "long",
    "training_memory",
    "startup",
    "connections",
    "coba",
    "microcircuit",
    "plastic",
    "online",
    "cuda",
)
#: Takes an hour, and is measured only if it is named.
LONG = ("accuracy",)


def machine(threads: int, cpu: bool) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    import torch

    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": threads,
        "clock": "processor" if cpu else "wall",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg()[0],
    }


def main(arguments: list[str] | None = None) -> None:
    names = f"one of {', '.join(NAMES)}; all of these if none is given; or {', '.join(LONG)}"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--rounds", type=int, default=11, help="of alternating calls (11)")
    parser.add_argument("--threads", type=int, default=2, help="of each library (2)")
    parser.add_argument("--cpu", action="store_true", help="processor time, for --threads 1 on a loaded machine")
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="folder that peers.sh filled (.peers)")
    parser.add_argument("--alone", action="store_true", help="without other libraries")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the benchmarks themselves")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON files")
    parser.add_argument("--ecg", type=Path, help="of accuracy: folder with QTDB_train.mat and QTDB_test.mat")
    parser.add_argument("--tasks", nargs="*", default=(), help="of accuracy: some of its tasks")
    given = parser.parse_args(arguments)
    if given.cpu and given.threads != 1:
        parser.error("--cpu needs --threads 1: threads that wait for each other take processor time")
    if unknown := set(given.names) - {*NAMES, *LONG}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join((*NAMES, *LONG))}")
    os.environ["OMP_NUM_THREADS"] = str(given.threads)

    import torch

    from .timing import Options, keep_memory

    torch.set_num_threads(given.threads)
    keep_memory()
    peers = None if given.alone else given.peers
    options = Options(given.rounds, given.threads, given.toy, peers, given.cpu, given.ecg, tuple(given.tasks))
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or NAMES:
        before = machine(given.threads, given.cpu)
        print(f"== {name}: torch {before['torch']}, {given.threads} threads, load {before['load']:.1f}", flush=True)
        comparisons = importlib.import_module(f".{name}", __package__).run(options)
        after = os.getloadavg()[0]
        print(f"(load at the end {after:.1f})\n", flush=True)
        result = {"name": name, "machine": before | {"load after": after}, "comparisons": comparisons}
        text = json.dumps(result, default=lambda comparison: comparison.data(), indent=1)
        (given.out / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
