"""Progress bars in a terminal of 80 columns, and silence elsewhere."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.tools import progress


class Terminal(io.StringIO):
    """A terminal; `lines` gives what was written since, a line for each refresh."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        written = self.getvalue()
        self.seek(0)
        self.truncate()
        return [line for line in re.split(r"[\r\n]+", written) if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns; calling it makes it stderr and gives what was written to it since."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    stream = Terminal()

    def lines() -> list[str]:
        monkeypatch.setattr(sys, "stderr", stream)  # not in the setup, after which pytest sets its own
        return stream.lines()

    return lines


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
    monkeypatch.setattr(sys.modules["neurodyn.loop.unroll"], "progress_bar", lambda n, after: original(n))
    net = torch.nn.Sequential(nd.LIF(2), torch.nn.Linear(2, 2), nd.LIF(2))
    nd.unroll(net, torch.ones(1000, 2), compile=False)
    assert "3000/3000" in terminal()[-1]
    nd.unroll(net, torch.ones(1000, 2), compile=False, progress=False)
    nd.unroll(net, torch.ones(999, 2), compile=False)
    assert terminal() == []


@pytest.mark.parametrize("T", [1000, 1001])
@pytest.mark.parametrize("checkpoint", [None, 300])
def test_the_compiled_loop_counts_its_steps(checkpoint: int | None, T: int, monkeypatch) -> None:
    """Those of all layers; what the backward pass computes again is not counted, nor what a proof does."""

    class Count(progress.Quiet):
        total = steps = 0

        def update(self, n: int = 1) -> None:
            self.steps += n

    count = Count()

    def bar(total: int, after: float) -> contextlib.AbstractContextManager[Count]:
        count.total = total
        return contextlib.nullcontext(count)

    monkeypatch.setattr(sys.modules["neurodyn.loop.unroll"], "progress_bar", bar)
    net = torch.nn.Sequential(nd.LIF(2), torch.nn.Linear(2, 2), nd.LIF(2))
    ys = nd.unroll(net, torch.ones(T, 2), checkpoint=checkpoint)
    assert count.steps == count.total == 3 * T
    ys.sum().backward()
    assert count.steps == 3 * T


def test_it_needs_no_tqdm(terminal: Callable[[], list[str]], monkeypatch) -> None:
    assert terminal() == []
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    simulate()
    assert terminal() == []


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 0), (0.3, 1)])
def test_a_line_while_something_is_compiled(terminal, monkeypatch, seconds, lines):
    monkeypatch.setattr(progress, "_last_line", -100.0)
    terminal()
    for _ in range(2):  # the second one is too soon
        with progress.compiling(after=0.1):
            time.sleep(seconds)
    assert len([line for line in terminal() if "neurodyn compiles the time loop" in line]) == lines


def test_in_a_notebook_it_is_no_error(monkeypatch):
    monkeypatch.setattr(progress, "_last_line", -100.0)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    with progress.compiling(after=0.01):
        time.sleep(0.1)
    assert stream.getvalue().count("\n") == 1


def test_no_line_where_nobody_watches(monkeypatch):
    monkeypatch.setattr(progress, "_last_line", -100.0)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with progress.compiling(after=0.01):
        time.sleep(0.1)
    assert stream.getvalue() == ""
