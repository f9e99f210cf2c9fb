"""Two processes, started by torchrun, with gloo on the loopback device."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

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
        [*command, str(WORKER), str(folder)], capture_output=True, text=True, timeout=1200, env=environment
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(found, check: str) -> None:
    for rank, results in enumerate(found):
        assert results[check] == "right", f"process {rank}: {results[check]}"


@pytest.mark.long
def test_the_scripts_of_the_page(tmp_path) -> None:
    page = Path(nd.__file__).parents[1] / "docs" / "scale.md"
    scripts = re.findall(r"```py\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(scripts) == 3
    once = r'dist\.(init_process_group\("gloo"\)|destroy_process_group\(\)).*\n'  # one start for all three
    bodies = [
        f"def script{i}():\n{indent(re.sub(once, '', text), '    ')}\nscript{i}()\n" for i, text in enumerate(scripts)
    ]
    start, stop = (
        "import torch.distributed as dist\ndist.init_process_group('gloo')\n",
        "dist.destroy_process_group()\n",
    )
    (tmp_path / "all.py").write_text(start + "".join(bodies) + stop)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "all.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert len(done.stdout.splitlines()) == 2
    assert set(nd.load(tmp_path / "run.safetensors")) == set(nd.load(tmp_path / "sharded.safetensors"))


@pytest.mark.parametrize("name", ["ddp", "fsdp", "simulate"])
def test_without_processes_it_says_what_to_call(name: str) -> None:
    arguments = (nd.LIF(2), 1 * u.ms) if name == "simulate" else (nd.LIF(2),)
    with pytest.raises(RuntimeError, match=r"nd\.distributed\." + name + ".*init_process_group.*torchrun"):
        getattr(nd.distributed, name)(*arguments)
