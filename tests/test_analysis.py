"""Spike statistics against closed forms, and against elephant 1.2.1 (reference/make_elephant.py)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import analysis
from neurodyn import units as u

DT = 0.5 * u.ms


@pytest.fixture
def spikes() -> Tensor:
    """The spikes of reference/make_elephant.py."""
    steps = torch.arange(2000)
    trains = [(steps * steps * 0.6180339887 * (i + 1) + 0.3 * steps) % 1 < 0.02 * (i + 1) for i in range(3)]
    return torch.stack(trains, 1).double()


def close(found: Tensor, wanted: list, rel: float = 1e-12) -> bool:
    wanted = torch.tensor(wanted)
    return bool(((found - wanted).abs() <= rel * wanted.abs().max()).all())


def test_against_elephant(spikes: Tensor) -> None:
    assert close(analysis.rates(spikes, DT).magnitude, [32.0, 77.0, 111.0])
    assert close(analysis.isi_cv(spikes, DT), [0.9849083642176233, 0.9030980791587284, 1.0854861747924782])
    fano = [1.275, 0.6305194805194805, 0.9454954954954953]
    assert close(analysis.fano_factor(spikes, 50 * u.ms, DT), fano)
    # elephant gives the root, scaled so that one spike more counts 1
    squared = analysis.van_rossum_distance(spikes[:, [0, 0, 1]], spikes[:, [1, 2, 2]], 10 * u.ms, DT)
    assert close((2 * squared).sqrt(), [11.244388625997528, 16.331694050913118, 14.149211964161779])
    steps = torch.arange(2000)
    stimulus = torch.sin(steps / 7.0) + 0.5 * torch.cos(steps / 31.0)
    times, mean = analysis.spike_triggered_average(stimulus, spikes, 5 * u.ms, DT)
    assert times.to("ms").magnitude.tolist() == [-4.5 + 0.5 * k for k in range(10)]
    first, second = [0.03175640716486935, -0.08803840492143443], [0.1336463582022747, -0.13238984875428586]
    assert close(mean[0, :2], first)
    assert close(mean[-1, :2], second)


def test_tensors_events_and_shapes_agree(spikes: Tensor) -> None:
    batch = torch.stack((spikes, spikes.flip(0)), 1)
    events = nd.Events.of(batch, DT)
    assert torch.equal(events.to_tensor(), batch)
    assert torch.equal(events.sample(1).to_tensor(), batch[:, 1])
    assert torch.equal(events.sample(-1, 2).to_tensor(), batch[:, 1, 2])
    assert analysis.isi_cv(events).shape == analysis.fano_factor(events, 50 * u.ms).shape == (2, 3)
    assert close(analysis.isi_cv(events)[0], analysis.isi_cv(spikes, DT).tolist())
    rate = analysis.population_rate(events, 100 * u.ms)
    assert rate.magnitude.shape == (10, 2)
    assert (rate.magnitude.mean(0) - spikes.mean() * 2000).abs().max() < 1e-9
    distance = analysis.van_rossum_distance(events.sample(0), events.sample(1), 10 * u.ms)
    assert torch.equal(distance, analysis.van_rossum_distance(batch[:, 0], batch[:, 1], 10 * u.ms, DT))


def test_closed_forms() -> None:
    regular = (torch.arange(1000) % 10 == 0).double()[:, None]
    assert analysis.isi_cv(regular).item() == 0
    assert analysis.fano_factor(regular, 100 * u.ms).item() == 0
    assert analysis.intervals(regular)[0].magnitude.tolist() == [10.0] * 99
    poisson = (torch.rand(200_000, 4, generator=torch.Generator().manual_seed(0)) < 0.05).double()
    # geometric intervals have CV sqrt(1 - p), binomial counts the factor 1 - p
    assert (analysis.isi_cv(poisson) - math.sqrt(0.95)).abs().max() < 0.05
    assert (analysis.fano_factor(poisson, 100 * u.ms) - 0.95).abs().max() < 0.1
    silent = torch.zeros(10, 1)
    assert analysis.isi_cv(silent).isnan().all()
    assert analysis.fano_factor(silent, 5 * u.ms).isnan().all()
    # D^2 of two spikes at a distance s is 1 - exp(-s / tau); of one spike against none, 1/2
    one, shifted = (torch.zeros(50, 1).index_fill(0, torch.tensor([k]), 1.0) for k in (3, 20))
    assert close(analysis.van_rossum_distance(one, shifted, 7 * u.ms), [1 - math.exp(-17 / 7)])
    assert close(analysis.van_rossum_distance(one, 0 * one, 7 * u.ms), [0.5])


def test_van_rossum_has_the_gradient_of_its_quadratic_form() -> None:
    a, b = torch.rand(12, 2, requires_grad=True), torch.rand(12, 2)
    analysis.van_rossum_distance(a, b, 4 * u.ms).sum().backward()
    lag = torch.arange(12)[:, None] - torch.arange(12)
    kernel = torch.exp(-lag.abs() / 4)  # D^2 = d K d / 2 with d = a - b
    assert (a.grad - kernel @ (a - b).detach()).abs().max() < 1e-12


def test_f_I_curve_of_lif_is_the_closed_form() -> None:
    neuron = nd.LIF((2,), tau=10 * u.ms, R=1 * u.Gohm, dt=0.05 * u.ms, reset="hard")
    I = torch.tensor([0.5, 1.5, 3.0])
    rates = analysis.f_I_curve(neuron, I * u.pA, 0.3 * u.s, settle=20 * u.ms, compile=False).magnitude
    assert rates.shape == (3, 2)
    interval = torch.ceil(10 * torch.log(I / (I - 1)) / 0.05) * 0.05
    assert rates[0].tolist() == [0.0, 0.0]
    assert ((rates[1:] * 0.3 - 300 / interval[1:, None]).abs() < 1).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: analysis.counts(s, 3 * u.ms), ValueError, "window=3 ms must be a multiple of dt=1 ms that divides"),
        (lambda s: analysis.counts(s, 2), TypeError, "window needs a unit"),
        (lambda s: analysis.rates(s.tolist()), TypeError, "got list"),
        (lambda s: analysis.rates(nd.Events.of(s), DT), TypeError, "leave out dt="),
        (lambda s: analysis.van_rossum_distance(s, s[1:], 2 * u.ms), ValueError, "differ"),
        (lambda s: analysis.van_rossum_distance(s, nd.Events.of(s), 2 * u.ms), TypeError, "two tensors, or two Events"),
        (lambda s: analysis.spike_triggered_average(s, s, 2 * u.ms), ValueError, "one number for each of the 10 steps"),
        (lambda s: analysis.spike_triggered_average(s[:, 0], s, 20 * u.ms), ValueError, "1 to 10 steps, got 20"),
        (lambda s: nd.Events.of(s).sample(2), IndexError, "no sample"),
    ],
)
def test_errors(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(torch.ones(10, 2))
