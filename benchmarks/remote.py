"""brainstate, in a process of its own that is idle while the others are measured."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from .timing import Milliseconds, Options, Work


class Worker:
    """A running `brainstate_worker.py`."""

    def __init__(self, python: Path, threads: int):
        script = Path(__file__).with_name("brainstate_worker.py")
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads)}
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [str(python), "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply


@functools.cache
def _worker(python: Path, threads: int) -> Worker:
    return Worker(python, threads)


def brainstate(options: Options, build: str, **arguments: Any) -> Work:
    """A piece of work of `brainstate_worker.py`, compiled and warm; or why there is none."""
    python = options.peers / "brainstate/bin/python" if options.peers else None
    if python is None or not python.exists():
        return "not installed, see benchmarks/peers.sh"
    worker = _worker(python, options.threads)
    try:
        key = worker.ask(build=build, **arguments)["key"]
    except RuntimeError as error:
        return str(error)
    return lambda: Milliseconds(worker.ask(call=key, cpu=options.cpu)["ms"])
