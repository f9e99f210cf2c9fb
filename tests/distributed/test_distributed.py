"""Two processes, started by torchrun, with gloo on the loopback device."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import neurodyn as nd
from neurodyn import units as u

WORKER = Path(__file__).with_name("worker.py")
CHECKS = [
    node.name
    for node in ast.parse(WORKER.read_text()).body
    if isinstance(node, ast.FunctionDef) and any(getattr(d, "id", "") == "check" for d in node.decorator_list)
]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(WORKER), str(folder)], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(found, check: str) -> None:
    for rank, results in enumerate(found):
        assert results[check] == "right", f"process {rank}: {results[check]}"


@pytest.mark.parametrize("name", ["ddp", "fsdp", "simulate"])
def test_without_processes_it_says_what_to_call(name: str) -> None:
    arguments = (nd.LIF(2), 1 * u.ms) if name == "simulate" else (nd.LIF(2),)
    with pytest.raises(RuntimeError, match=r"nd\.distributed\." + name + ".*init_process_group.*torchrun"):
        getattr(nd.distributed, name)(*arguments)
