"""Records of a whole population: the same numbers as from all values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import analysis
from neurodyn import units as u
from neurodyn.engine import program_cache

GROUPS = {"E": 7, "I": 3}


def noise(first: int, steps: int, generator: torch.Generator) -> Tensor:
    return 3 * torch.rand(steps, 2, 10, generator=generator)


def lif() -> nd.LIF:
    return nd.LIF(10, tau=9 * u.ms, R=1 * u.Gohm, dt=0.5 * u.ms)


@pytest.mark.parametrize("compile", [False, True])
def test_means_are_those_of_all_values(compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurodyn.run.input_rows._BLOCK_BYTES", 4000)  # blocks of 25 steps
    record = {
        "spikes": None,
        "V": None,
        "rate": nd.PopulationRate("spikes", 5 * u.ms),
        "rates": nd.PopulationRate("output", 7 * u.ms, groups=GROUPS),
        "mean of V": nd.PopulationMean("V", 0.5 * u.ms),
        "slow V": nd.PopulationMean("V", 35 * u.ms, groups=GROUPS),
    }
    found = nd.simulate(lif(), 70 * u.ms, noise, record, batch=2, compile=compile)
    for sample in (0, 1):
        spikes, V = found["spikes"].sample(sample), found["V"].values[:, sample]
        rate = analysis.population_rate(spikes, 5 * u.ms).to("Hz").magnitude
        torch.testing.assert_close(found["rate"].sample(sample).values, rate)
        assert rate.std() > 1
        for k, part in enumerate((slice(0, 7), slice(7, 10))):
            dense = spikes.to_tensor()[:, part]
            wanted = analysis.population_rate(dense, 7 * u.ms, dt=0.5 * u.ms).to("Hz").magnitude
            torch.testing.assert_close(found["rates"].values[:, sample, k], wanted)
            torch.testing.assert_close(found["slow V"].values[:, sample, k], V[:, part].view(2, 70, -1).mean((1, 2)))
        torch.testing.assert_close(found["mean of V"].values[:, sample], V.mean(1))
    assert found["rate"].unit == u.Hz
    assert found["slow V"].unit == u.mV
    assert found["rates"].times.to("ms").magnitude.tolist() == [7.0 * k for k in range(10)]


def test_bins_in_parts_and_one_that_is_not_full() -> None:
    net, record = lif(), {"rate": nd.PopulationRate("spikes", 4 * u.ms)}
    whole = nd.simulate(net, 22 * u.ms, noise, record, batch=2, compile=False)
    assert len(whole["rate"].values) == 5
    first = nd.simulate(net, 8 * u.ms, noise, record, batch=2, compile=False)
    after = {"states": first.states, "start": first.step}
    rest = nd.simulate(net, 14 * u.ms, noise, record, compile=False, **after)
    assert torch.equal(nd.Recording.join(first, rest)["rate"].values, whole["rate"].values)
    with pytest.raises(ValueError, match="start=3 is inside a bin of 'rate' of 8 steps"):
        nd.simulate(net, 8 * u.ms, noise, record, batch=2, start=3, compile=False)
    short = nd.simulate(net, 3 * u.ms, noise, record, batch=2, compile=False)["rate"]
    assert short.values.shape == (0, 2)


def test_memory_does_not_go_with_the_spikes(tmp_path) -> None:
    recording = nd.simulate(lif(), 50 * u.ms, noise, {"rate": nd.PopulationRate("spikes", 25 * u.ms)}, batch=2)
    assert recording["rate"].values.shape == (2, 2)
    nd.save(tmp_path / "rate", recording=recording)
    again = nd.Recording.from_state_dict(nd.load(tmp_path / "rate")["recording"])
    assert torch.equal(again["rate"].values, recording["rate"].values)
    assert again["rate"].unit == u.Hz


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: nd.PopulationRate("spikes", 5), TypeError, "PopulationRate: bin needs a unit"),
        (lambda: nd.PopulationRate("spikes", 0 * u.ms), ValueError, "bin must be positive"),
        (lambda: nd.PopulationRate("spike", 5 * u.ms), KeyError, "no 'spike' to record; there are output, spikes, V"),
        (lambda: nd.PopulationRate("spikes", 0.7 * u.ms), ValueError, "the bin of 'x' must be a positive multiple"),
        (lambda: nd.PopulationMean("V", 1 * u.ms, groups={"E": 4}), ValueError, "have 4 neurons together, 'V' has 10"),
    ],
)
def test_errors(build, error, words: str) -> None:
    with pytest.raises(error, match=words):
        nd.simulate(lif(), 10 * u.ms, noise, {"x": build()}, batch=2, compile=False)


def test_of_true_and_false() -> None:
    class Above(nn.Module):
        def __init__(self):
            super().__init__()
            self.N = lif()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            self.N(x)
            return {"high": self.N.V > 0.5}

    record = {"high": None, "share": nd.PopulationMean("high", 1 * u.ms)}
    found = nd.simulate(Above(), 10 * u.ms, noise, record, batch=2, compile=False)
    wanted = found["high"].values.double().view(10, 2, 2, 10).mean((1, 3))
    torch.testing.assert_close(found["share"].values, wanted)


def test_a_second_run_is_not_compiled_again(no_programs) -> None:
    net = nd.LIF(10)
    record = {"V": nd.PopulationMean("V", 2 * u.ms, groups={"E": 8, "I": 2})}
    known = []
    for _ in range(3):
        nd.simulate(net, 20 * u.ms, nd.constant(torch.ones(10)), record, progress=False)
        known.append(program_cache.how_many())
    assert known[0] > 0
    assert known == known[:1] * 3
