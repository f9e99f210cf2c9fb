"""Progress bars in a terminal of 80 columns, and silence elsewhere."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Callable

import pytest
import torch

import neurodyn as nd
from neurodyn import progress
from neurodyn import units as u
from neurodyn.engine import unroll as engine_unroll


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns for stderr; calling it gives what was written since, a line for each refresh."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(ours, False)
    stream = os.fdopen(theirs, "w")

    def lines() -> list[str]:
        monkeypatch.setattr(sys, "stderr", stream)  # not in the setup, after which pytest sets its own
        stream.flush()
        try:
            return [line for line in re.split(r"[\r\n]+", os.read(ours, 2**20).decode()) if line.strip()]
        except BlockingIOError:
            return []

    yield lines
    monkeypatch.undo()
    stream.close()
    os.close(ours)


def simulate(**options) -> None:
    nd.simulate(nd.LIF(2), 300 * u.ms, torch.ones(2), compile=False, **options)


def test_simulate_shows_steps_speed_and_time_left(terminal: Callable[[], list[str]]) -> None:
    assert terminal() == []
    simulate()
    shown = terminal()
    assert all(len(line) <= 80 for line in shown)
    assert re.search(r"100%\|.*\| 300/300 \[00:\d\d<00:00, .*steps/s\]", shown[-1])
    simulate(progress=False)
    assert terminal() == []


def test_it_is_quiet_where_no_one_watches(capfd) -> None:
    simulate()
    assert capfd.readouterr() == ("", "")


def test_long_unrolls(terminal: Callable[[], list[str]], monkeypatch) -> None:
    assert terminal() == []
    original = progress.bar
    monkeypatch.setattr(sys.modules[engine_unroll.__module__], "progress_bar", lambda n, after: original(n))
    net = torch.nn.Sequential(nd.LIF(2), torch.nn.Linear(2, 2), nd.LIF(2))
    nd.unroll(net, torch.ones(1000, 2), compile=False)
    assert "2.00k/2.00k" in terminal()[-1]
    nd.unroll(net, torch.ones(1000, 2), compile=False, progress=False)
    nd.unroll(net, torch.ones(999, 2), compile=False)
    assert terminal() == []


def test_the_compiled_loop_counts_its_steps() -> None:
    class Count(progress.Quiet):
        steps = 0

        def update(self, n: int = 1) -> None:
            self.steps += n

    count = Count()
    module = sys.modules[engine_unroll.__module__]
    lif = nd.LIF(2)
    lif.reset_state()
    module._run(lif, (torch.ones(32, 2),), True, None, count)
    assert count.steps == 32


def test_it_needs_no_tqdm(terminal: Callable[[], list[str]], monkeypatch) -> None:
    assert terminal() == []
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    simulate()
    assert terminal() == []
