"""Random edits of state_dicts, in a process of their own, so that a crash shows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_only_errors_or_correct_results(count: int) -> None:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("edits.py")), "0", str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    assert sum(found.values()) == count
    assert min(found["loaded"], found["refused"]) > count / 10  # both happen
