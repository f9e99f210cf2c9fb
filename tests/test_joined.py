"""Recordings that follow each other as one, in files, and traces with a time step of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def network() -> nn.Sequential:
    return nn.Sequential(nd.Expon(3, tau=2 * u.ms), nd.LIF(3, R=1 * u.Gohm))


def drive(first: int, steps: int, generator: torch.Generator) -> torch.Tensor:
    return torch.sin(torch.arange(first, first + steps).view(-1, 1) / torch.tensor([5.0, 7.0, 9.0])).clamp(min=0)


def simulated(net: nn.Module, duration: float, **options) -> nd.Recording:
    record = {"spikes": None, "1.V": None, "0.g": [1, 2]}
    return nd.simulate(net, duration * u.ms, drive, record, compile=False, progress=False, **options)


def same(a: nd.Recording, b: nd.Recording) -> None:
    assert repr(a) == repr(b)
    assert a.step == b.step
    for name in a:
        for field in vars(a[name]):
            left, right = getattr(a[name], field), getattr(b[name], field)
            assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
    assert all(torch.equal(value, b.states[name]) for name, value in a.states.items())


@pytest.mark.parametrize("trace_dt", [None, 5 * u.ms])
def test_parts_joined_are_the_whole(trace_dt) -> None:
    net, parts, after = network(), [], {}
    for duration in (20, 35, 45):
        parts.append(simulated(net, duration, trace_dt=trace_dt, **after))
        after = {"states": parts[-1].states, "start": parts[-1].step}
    whole = simulated(net, 100, trace_dt=trace_dt)
    assert len(whole["spikes"]) > 5
    same(nd.Recording.join(*parts), whole)
    same(nd.Recording.join(parts[0]), parts[0])


def test_a_parameter_that_changes_between_the_parts() -> None:
    net = network()
    first = simulated(net, 50)
    net[1].V_th = 0.1 * u.mV
    second = simulated(net, 50, states=first.states, start=first.step)
    counts = [int((nd.Recording.join(first, second)["spikes"].steps // 50 == i).sum()) for i in (0, 1)]
    assert counts[1] > 2 * counts[0]


def test_what_does_not_follow_is_not_joined() -> None:
    net = network()
    first = simulated(net, 10)
    rest = simulated(net, 10, states=first.states, start=first.step)
    with pytest.raises(ValueError, match="join: 'spikes' ends with step 20 and goes on with step 0"):
        nd.Recording.join(rest, first)
    other = nd.simulate(net, 10 * u.ms, drive, ["spikes"], start=10, compile=False)
    with pytest.raises(ValueError, match=r"one recording has spikes, 1\.V, 0\.g, another one spikes"):
        nd.Recording.join(first, other)
    coarse = simulated(net, 10, start=10, trace_dt=5 * u.ms)
    with pytest.raises(ValueError, match=r"'1.V' is Trace of shape .* at 1 ms and then Trace of shape .* at 5 ms"):
        nd.Recording.join(first, coarse)
    with pytest.raises(ValueError, match="no recording"):
        nd.Recording.join()


def test_a_recording_in_a_file(tmp_path: Path) -> None:
    recording = simulated(network(), 30)
    nd.save(tmp_path / "run", recording=recording)
    same(nd.Recording.from_state_dict(nd.load(tmp_path / "run")["recording"]), recording)


def test_traces_with_a_time_step_of_their_own() -> None:
    net = network()
    every, tenth = simulated(net, 60)["1.V"], simulated(net, 60, trace_dt=10 * u.ms)["1.V"]
    assert torch.equal(tenth.values, every.values[9::10])
    assert (tenth.dt, tenth.start) == (10, 0)
    assert tenth.times.magnitude.tolist() == [0, 10, 20, 30, 40, 50]
    assert len(simulated(net, 60, trace_dt=10 * u.ms)["spikes"]) == len(simulated(net, 60)["spikes"])
    assert len(simulated(net, 7, trace_dt=10 * u.ms)["1.V"].values) == 0
    for options, words in (
        ({"trace_dt": 2.5 * u.ms}, "trace_dt must be a positive"),
        ({"trace_dt": 0 * u.ms}, "trace_dt"),
    ):
        with pytest.raises(ValueError, match=words):
            simulated(net, 60, **options)
    with pytest.raises(ValueError, match="start=5 is inside a trace_dt of 10 steps"):
        simulated(net, 60, start=5, trace_dt=10 * u.ms)
