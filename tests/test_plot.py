"""Pictures show what was recorded, with units on the axes, on axes that are given or made."""

from __future__ import annotations

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import plot
from neurodyn import units as u


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_raster(ax) -> None:
    spikes = (torch.rand(50, 20) < 0.1).double()
    events = nd.Events(*spikes.nonzero(as_tuple=True), (20,), 100, 150, 0.1)
    assert plot.raster(spikes, dt=0.5 * u.ms, ax=ax) is ax
    points = ax.collections[0].get_offsets()
    assert np.allclose(points, spikes.nonzero() * torch.tensor([0.5, 1.0]))
    assert ax.get_xlim() == (0, 25)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (ms)", "neuron")
    plot.raster(nd.Events(events.steps + 100, events.neurons, (20,), 100, 150, 0.1), ax=ax)
    assert np.allclose(ax.get_xlim(), (10, 15))
    assert np.allclose(ax.collections[1].get_offsets()[:, 0], (spikes.nonzero()[:, 0] + 100) * 0.1)


def test_raster_of_a_large_network_is_drawn_in_dots(ax) -> None:
    spikes = nd.Events(torch.arange(25_000) // 10, torch.arange(25_000) % 4000, (4000,), 0, 2500, 0.1)
    marks = plot.raster(spikes, ax=ax).collections[0]
    assert marks.get_rasterized()
    assert ax.get_ylim() == (-0.5, 3999.5)


def test_groups_of_a_raster(ax) -> None:
    spikes = torch.eye(5)
    plot.raster(spikes, groups={"E": 4, "I": 1}, dt=1 * u.ms, ax=ax)
    assert [len(marks.get_offsets()) for marks in ax.collections] == [4, 1]
    assert not np.array_equal(*(marks.get_facecolor() for marks in ax.collections))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["E", "I"]
    assert ax.get_ylim() == (4.5, -0.5)
    with pytest.raises(ValueError, match="the groups have 3 neurons together, the spikes come from 5"):
        plot.raster(spikes, groups={"E": 3}, dt=1 * u.ms, ax=ax)


def test_a_sample_of_each_group(ax) -> None:
    spikes = torch.ones(2, 1000)  # every neuron in every step
    plot.raster(spikes, groups={"E": 800, "I": 190, "few": 10}, sample=40, transient=1 * u.ms, dt=1 * u.ms, ax=ax)
    marks = ax.collections
    assert [len(part.get_offsets()) for part in marks] == [64, 16, 2]  # 32, 8 and 1 of them
    assert ax.get_ylim() == (40.5, -0.5)
    assert ax.get_ylabel() == "41 of 1000 neurons"
    assert sorted({y for part in marks for y in part.get_offsets()[:, 1].tolist()}) == [*range(41)]
    (shade,) = ax.patches
    assert (shade.get_x(), shade.get_width()) == (0, 1)
    assert [text.get_text() for text in ax.texts] == ["transient"]
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        plot.raster(spikes, sample=0, ax=ax)


def lines_of(bottom) -> dict[str, list[float]]:
    return {line.get_label(): line.get_data().values.tolist() for line in bottom.patches if hasattr(line, "get_data")}


def test_activity_draws_the_rates_of_all_neurons_beneath() -> None:
    spikes = torch.zeros(23, 10)
    spikes[:10, :8] = 1
    spikes[15, 9] = 1
    figure = plt.figure()
    top, bottom = plot.activity(spikes, 10 * u.ms, groups={"E": 8, "I": 2}, sample=5, dt=1 * u.ms, figure=figure)
    assert lines_of(bottom) == {"E": [1000.0, 0.0], "I": [0.0, 50.0]}  # 3 steps do not fill a window
    colors = [matplotlib.colors.to_hex(part.get_facecolor()[0]) for part in top.collections]
    assert [matplotlib.colors.to_hex(line.get_edgecolor()) for line in bottom.patches] == colors
    assert bottom.get_ylim()[1] > 1000
    assert top.get_xlim() == bottom.get_xlim() == (0, 23)
    assert [text.get_text() for text in bottom.get_legend().get_texts()] == ["E", "I"]
    groups = {"L4E": 4, "L4I": 1, "L5E": 4, "L5I": 1}
    _, bottom = plot.activity(spikes, 10 * u.ms, groups=groups, dt=1 * u.ms, figure=plt.figure())
    assert lines_of(bottom) == {"E": [875.0, 0.0], "I": [500.0, 50.0]}
    _, bottom = plot.activity(spikes, 10 * u.ms, groups=groups, rates=("L4I", "L5E"), dt=1 * u.ms, figure=plt.figure())
    assert lines_of(bottom) == {"L4I": [1000.0, 0.0], "L5E": [750.0, 0.0]}
    with pytest.raises(ValueError, match="rates has 'L6', which is no group; there are L4E, L4I, L5E, L5I"):
        plot.activity(spikes, 10 * u.ms, groups=groups, rates=("L6",), dt=1 * u.ms, figure=plt.figure())
    _, bottom = plot.activity(spikes, 10 * u.ms, dt=1 * u.ms)
    assert [*lines_of(bottom).values()] == [[800.0, 10.0]]
    plt.close("all")


def test_population_rate(ax) -> None:
    spikes = torch.zeros(20, 4)
    spikes[:10] = 1
    assert plot.population_rate(spikes, 5 * u.ms, ax=ax) is ax
    drawn = ax.patches[0].get_data()
    assert drawn.values.tolist() == [1000, 1000, 0, 0]
    assert drawn.edges.tolist() == [0, 5, 10, 15, 20]
    assert ax.get_ylabel() == "rate (Hz)"


def test_traces(ax) -> None:
    recording = nd.simulate(nd.LIF(3), 20 * u.ms, 1.5 * torch.ones(3), ["V"], compile=False)
    assert plot.traces(recording["V"], [0, 2], ax=ax) is ax
    assert np.allclose(ax.lines[1].get_ydata(), recording["V"].values[:, 2])
    assert ax.lines[0].get_xdata().tolist() == [float(k) for k in range(1, 21)]
    assert ax.get_ylabel() == "V (mV)"
    assert len(ax.lines) == 2
    plot.traces(u.quantity(torch.rand(8, requires_grad=True), "nS"), name="g", dt=0.1 * u.ms, ax=ax)
    assert ax.get_ylabel() == "g (nS)"


def test_spikes_are_marked_on_potentials(ax) -> None:
    neuron, I = nd.LIF(3, tau=5 * u.ms, R=1 * u.Gohm), torch.tensor([0.5, 1.3, 2.0])
    recording = nd.simulate(neuron, 30 * u.ms, nd.constant(I), ["V", "spikes"], compile=False)
    plot.traces(recording["V"], [1, 2], spikes=recording["spikes"], ax=ax)
    for marks, neuron, line in zip(ax.collections, (1, 2), ax.lines, strict=True):
        wanted = recording["spikes"].steps[recording["spikes"].neurons == neuron] + 1.0
        segments = np.array(marks.get_segments())
        assert segments[:, :, 0].tolist() == [[t, t] for t in wanted.tolist()]
        assert len(wanted) > 2
        assert (segments[:, 0, 1] == recording["V"].values[:, 1:].max()).all()
        assert matplotlib.colors.to_hex(marks.get_color()[0]) == line.get_color().lower()
    with pytest.raises(ValueError, match=r"the spikes are of shape \(2,\) .* the values of \(3,\)"):
        plot.traces(recording["V"], spikes=torch.ones(30, 2), dt=1 * u.ms, ax=ax)


@pytest.mark.parametrize("chosen", [None, [1]])
@pytest.mark.parametrize(
    ("neurons", "senders"), [([0, 2], None), ([2, 0], [0, 1, 2]), ([1, 2], [2, 1]), (None, [2, 1, 0])]
)
def test_spikes_are_marked_by_the_numbers_of_the_neurons(ax, neurons, senders, chosen) -> None:
    layer, I = nd.LIF(3, tau=5 * u.ms, R=1 * u.Gohm), torch.tensor([0.5, 1.3, 2.0])
    record = {"V": neurons, "spikes": senders}
    recording = nd.simulate(layer, 30 * u.ms, nd.constant(I), record, compile=False)
    plot.traces(recording["V"], chosen, spikes=recording["spikes"], ax=ax)
    shown = range(3) if neurons is None else neurons
    shown = list(shown) if chosen is None else [shown[k] for k in chosen]
    every = nd.simulate(layer, 30 * u.ms, nd.constant(I), ["spikes"], compile=False)["spikes"]
    for marks, number in zip(ax.collections, shown, strict=True):
        wanted = every.steps[every.neurons == number] + 1.0
        assert [segment[0, 0] for segment in marks.get_segments()] == wanted.tolist()
    other = nd.simulate(layer, 30 * u.ms, nd.constant(I), {"spikes": [0, 2]}, compile=False)["spikes"]
    some = nd.simulate(layer, 30 * u.ms, nd.constant(I), {"V": [0, 1]}, compile=False)["V"]
    with pytest.raises(ValueError, match="record both of the same neurons"):
        plot.traces(some, spikes=other, ax=ax)


@pytest.mark.parametrize(
    ("build", "label"),
    [
        (lambda: nn.Linear(5, 3), "weight"),
        (lambda: nd.AllToAll(5, 3, weight=nd.init.Normal(0 * u.nS, 1 * u.nS)), "weight (nS)"),
        (lambda: nd.FixedProb(5, 3, 0.5, weight=-2 * u.pA), "weight (pA)"),
        (lambda: nd.FixedProb(5, 3, 0.5, weight=2 * u.mV, delay=2 * u.ms), "weight (mV)"),
        (lambda: torch.rand(3, 5) * u.pA, "weight (pA)"),
    ],
)
def test_weight_matrix(ax, build, label: str) -> None:
    weights = build()
    assert plot.weight_matrix(weights, ax=ax) is ax
    drawn = torch.tensor(ax.images[0].get_array())
    if isinstance(weights, nn.Module) and getattr(weights, "delays", None) is None:
        assert torch.allclose(drawn.T, weights(torch.eye(5)) - weights(torch.zeros(1, 5)))
    assert drawn.shape == (3, 5)
    assert ax.images[0].colorbar.ax.get_ylabel() == label


def closed_form(neuron: nd.Dynamics, V: torch.Tensor, I: float) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(neuron, nd.AdEx):
        upswing = neuron.Delta_T * torch.exp((V - neuron.V_T) / neuron.Delta_T)
        return neuron.g_L * (neuron.E_L - V + upswing) + I, neuron.a * (V - neuron.E_L)
    m, w = ((1 + torch.tanh((V - a) / b)) / 2 for a, b in ((neuron.V1, neuron.V2), (neuron.V3, neuron.V4)))
    ionic = neuron.g_Ca * m * (V - neuron.V_Ca) + neuron.g_L * (V - neuron.V_L)
    return (I - ionic) / (neuron.g_K * (V - neuron.V_K)), w


@pytest.mark.parametrize(
    ("build", "I", "x", "y"), [(nd.AdEx, 500.0, (-80, -45), (-50, 700)), (nd.MorrisLecar, 90.0, (-60, 50), (-0.1, 0.7))]
)
def test_nullclines_are_those_of_the_equations(ax, build, I: float, x, y) -> None:
    neuron = build((2,), dt=0.1 * u.ms)
    before = neuron.dt
    y_unit = u.pA if build is nd.AdEx else u.dimensionless
    assert plot.phase_plane(neuron, I * u.pA, x=x * u.mV, y=y * y_unit, index=1, ax=ax) is ax
    assert neuron.dt == before
    lines = [torch.cat([torch.tensor(p.vertices) for p in c.get_paths()]) for c in ax.collections[:2]]
    for k, line in enumerate(lines):
        wanted = closed_form(neuron, line[:, 0], I)[k][:, None].mean(1)
        steep = (y[1] - y[0]) * 0.004
        inside = (line[:, 0] > x[0] + 1) & (line[:, 0] < x[1] - 1)
        assert len(line) > 50
        assert (line[inside, 1] - wanted[inside]).abs().median() < steep
    assert ax.get_xlabel() == "V (mV)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dV/dt = 0", "dw/dt = 0", "flow"]


def test_a_trajectory_sets_the_limits_and_its_resets_are_dotted(ax) -> None:
    neuron = nd.Izhikevich(1, dt=0.1 * u.ms)
    recording = nd.simulate(neuron, 60 * u.ms, torch.tensor([10.0]), ("V", "u", "spikes"), compile=False)
    plot.phase_plane(neuron, 10 * u.pA, trajectory=recording, ax=ax)
    assert ax.get_xlim()[0] < recording["V"].values.min() < recording["V"].values.max() < ax.get_xlim()[1]
    assert sum(line.get_linestyle() == ":" for line in ax.lines) == len(recording["spikes"]) == 2
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["dV/dt = 0", "du/dt = 0", "flow", "trajectory", "jump", "start"]


def test_f_I(ax) -> None:
    currents = torch.linspace(0, 3, 4) * u.pA
    spikes = nd.Events.of(torch.ones(10, 4, 2))
    assert plot.f_I(currents, spikes, ax=ax) is ax
    assert ax.lines[1].get_ydata().tolist() == [1000.0] * 4
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("current (pA)", "rate (Hz)")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.raster(torch.ones(3, 2, 4)), ValueError, r"shape \(2, 4\) .* with spikes\[:, 0\]"),
        (lambda: plot.raster(nd.Events.of(torch.ones(3, 2, 4))), ValueError, r"with spikes\.sample\(0\)"),
        (lambda: plot.traces(torch.ones(5, 9)), ValueError, "9 lines are too many"),
        (lambda: plot.weight_matrix(nn.ReLU()), TypeError, "ReLU has no matrix"),
        (lambda: plot.phase_plane(nd.LIF(1)), ValueError, r"two states, LIF\(1\) has V"),
        (lambda: plot.phase_plane(nd.AdEx(1)), ValueError, "limits of V"),
        (lambda: plot.f_I(torch.ones(2), torch.ones(2)), TypeError, "currents need a unit"),
        (lambda: plot.f_I(torch.ones(2) * u.pA, torch.ones(3)), ValueError, "2 currents, and rates for 3"),
    ],
)
def test_errors(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_without_matplotlib_it_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
import torch, neurodyn.plot
try:
    neurodyn.plot.raster(torch.ones(3, 2))
except ModuleNotFoundError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs matplotlib: pip install 'neurodyn[plot]'" in printed
