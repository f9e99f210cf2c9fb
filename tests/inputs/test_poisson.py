"""Distributions of the random inputs, over fixed seeds: p > 1e-4, moments within 4 standard errors."""

import math

import pint
import pytest
import torch
from scipy import stats

import neurodyn as nd
from neurodyn import units as u

P_MIN = 1e-4


def generator(seed):
    return torch.Generator().manual_seed(seed)


def sequence(source, T, seed, by):
    """T steps: drawn at once from a generator, or one by one from the seed of the source."""
    if by == "generator":
        return source(T, generator=generator(seed))
    return torch.stack([source.at(i) for i in range(T)])


def binomial_p_value(counts, n, p):
    """Chi-square of counts against the binomial distribution, tails joined."""
    low, high = int(stats.binom.ppf(0.002, n, p)), int(stats.binom.ppf(0.998, n, p))
    observed = torch.bincount(counts.clamp(low, high).long() - low, minlength=high - low + 1).numpy()
    wanted = stats.binom.pmf(range(low, high + 1), n, p)
    wanted[0], wanted[-1] = stats.binom.cdf(low, n, p), stats.binom.sf(high - 1, n, p)
    return stats.chisquare(observed, wanted * len(counts)).pvalue


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("by", ["generator", "at"])
def test_counts_and_intervals(seed, by):
    source = nd.PoissonSpike(2000, 40 * u.Hz, dt=1 * u.ms, seed=seed)
    spikes = sequence(source, 1000, seed, by)
    assert spikes.unique().tolist() == [0, 1]
    assert binomial_p_value(spikes.sum(0), 1000, 0.04) > P_MIN  # over neurons
    assert binomial_p_value(spikes.sum(1), 2000, 0.04) > P_MIN  # over steps
    train = spikes.T.reshape(-1).nonzero().squeeze()
    gaps = train.diff()
    jitter = torch.rand(len(gaps), generator=generator(seed + 9))
    # a geometric interval, spread over its step by an exponential's shape, is an exponential one
    rate = -math.log1p(-0.04)
    continuous = gaps - 1 - torch.log1p(-jitter * 0.04) / rate
    assert stats.kstest(continuous.numpy() * rate, "expon").pvalue > P_MIN


@pytest.mark.parametrize("by", ["generator", "at"])
def test_steps_and_neurons_are_uncorrelated(by):
    spikes = sequence(nd.PoissonSpike(300, 300 * u.Hz, seed=3), 1000, 3, by)
    z = (spikes - 0.3) / math.sqrt(0.21)
    for lag in (1, 2, 5):
        products = z[:-lag] * z[lag:]
        assert abs(products.mean().item()) < 4 / math.sqrt(products.numel())
    products = z[:, :-1] * z[:, 1:]
    assert abs(products.mean().item()) < 4 / math.sqrt(products.numel())


def test_draws_are_independent_over_the_batch():
    """One draw was shared by the whole batch."""
    encoder = nd.PoissonEncoder(dt=1 * u.ms)
    spikes = encoder(torch.full((2, 5000), 0.3), generator=generator(1))
    assert abs((spikes[0] * spikes[1]).mean().item() - 0.09) < 4 * math.sqrt(0.09 * 0.91 / 5000)
    source = nd.PoissonSpike(5000, 300 * u.Hz)
    for a, b in (source.at(0, 2), source(1, 2)[0]):
        assert abs((a * b).mean().item() - 0.09) < 4 * math.sqrt(0.09 * 0.91 / 5000)


def test_p_of_0_and_1_are_exact(monkeypatch):
    """A rate of 0 could spike, where the random number was exactly 0."""
    encoder, rates = nd.PoissonEncoder(dt=1 * u.ms), torch.tensor([0.0, 1.0])
    assert encoder(rates, T=100_000).sum(0).tolist() == [0, 100_000]
    for extreme in (0.0, 1 - 2**-53):
        monkeypatch.setattr(torch, "rand", lambda shape, extreme=extreme, **_: torch.full(shape, extreme))
        assert encoder(rates).tolist() == [0, 1]


def test_rate_too_high_for_dt():
    with pytest.raises(ValueError, match=r"PoissonSpike: freqs: a rate of 2 / ms gives 2 spikes in a step of dt=1 ms"):
        nd.PoissonSpike(3, 2000 * u.Hz)
    with pytest.raises(ValueError, match=r"PoissonEncoder: rates: a rate of 1\.5"):
        nd.PoissonEncoder(dt=1 * u.ms)(torch.tensor([0.1, 1.5]))
    with pytest.raises(ValueError, match="must not be negative"):
        nd.PoissonInput(3, 10, -1 * u.Hz, 1 * u.nS)
    with pytest.raises(ValueError, match="must not be negative"):
        nd.PoissonEncoder()(torch.tensor([float("nan")]))
    assert nd.PoissonSpike(3, 2000 * u.Hz, dt=0.5 * u.ms).at(0).tolist() == [1, 1, 1]


def test_units_of_rates():
    with pytest.raises(TypeError, match="freqs needs a unit"):
        nd.PoissonSpike(3, 20.0)
    with pytest.raises(pint.DimensionalityError):
        nd.PoissonSpike(3, 20 * u.ms)
    with pytest.raises(pint.DimensionalityError):
        nd.PoissonEncoder()(20 * u.mV)
    with pytest.raises(TypeError, match=r"20.0 \* u.Hz"):
        nd.PoissonEncoder()(20.0)
    encoder, x = nd.PoissonEncoder(), torch.rand(40, 50)
    by_unit = encoder(u.quantity(300 * x, "Hz"), generator=generator(2))
    assert torch.equal(by_unit, encoder(0.3 * x, generator=generator(2)))
    per_neuron = nd.PoissonSpike(3, u.quantity(torch.tensor([0.0, 500.0, 1000.0]), "Hz"))
    assert torch.allclose(per_neuron(20_000).mean(0), torch.tensor([0.0, 0.5, 1.0]), atol=0.02)


def test_seeds_and_generators():
    source = nd.PoissonSpike(50, 200 * u.Hz, seed=7)
    before = torch.get_rng_state()
    first = [source.at(i, 2) for i in (5, 6)]
    assert torch.equal(torch.get_rng_state(), before)  # the seeded steps leave torch's generator alone
    assert torch.equal(source.at(5, 2), first[0])
    assert not torch.equal(*first)
    assert torch.equal(nd.PoissonSpike(50, 200 * u.Hz, seed=7).at(6, 2), first[1])
    assert not torch.equal(nd.PoissonSpike(50, 200 * u.Hz, seed=8).at(6, 2), first[1])
    assert torch.equal(source(9, generator=generator(1)), source(9, generator=generator(1)))
    assert not torch.equal(source(9), source(9))
    torch.manual_seed(1)
    a = nd.PoissonSpike(50, 200 * u.Hz)
    torch.manual_seed(1)
    assert torch.equal(nd.PoissonSpike(50, 200 * u.Hz).at(3), a.at(3))
    encoder, rates = nd.PoissonEncoder(seed=4), torch.rand(2, 50)
    assert torch.equal(encoder.at(3, rates), encoder.at(3, rates))
    assert not torch.equal(encoder.at(3, rates), encoder.at(4, rates))
    assert torch.equal(encoder(rates, 6, generator=generator(1))[0] >= 0, torch.ones(2, 50, dtype=torch.bool))


@pytest.mark.parametrize(("n", "hz"), [(200, 100), (20, 300), (1000, 2)])
def test_poisson_input_is_binomial(n, hz):
    source = nd.PoissonInput(40_000, n, hz * u.Hz, 0.5 * u.nS, seed=1)
    p = hz * 1e-3
    for values in (source(1, generator=generator(3))[0], source.at(0)):
        assert binomial_p_value(values / 0.5, n, p) > P_MIN


def test_normal_input_has_the_right_standard_deviation():
    """It was n p (1 - p), 18 instead of 4.24 for n = 200 and p = 0.1."""
    n, p, N = 200, 0.1, 100_000
    source = nd.PoissonInput(N, n, 100 * u.Hz, 1 * u.mV, method="normal")
    values = source(1, generator=generator(4))[0]
    sd = math.sqrt(n * p * (1 - p))
    assert abs(values.mean().item() - n * p) < 4 * sd / math.sqrt(N)
    assert abs(values.std().item() - sd) < 4 * sd / math.sqrt(2 * N)
    assert stats.kstest((values.numpy() - n * p) / sd, "norm").pvalue > P_MIN
    with pytest.raises(ValueError, match="method must be"):
        nd.PoissonInput(3, n, 1 * u.Hz, 1 * u.mV, method="gauss")
    with pytest.raises(ValueError, match="num_input must be"):
        nd.PoissonInput(3, 0, 1 * u.Hz, 1 * u.mV)


@pytest.mark.parametrize("method", ["binomial", "normal"])
def test_shot_noise_mean_and_variance(method):
    """Campbell's theorem in discrete time, over 40,000 synapses in their stationary state."""
    N, n, p, w, tau = 40_000, 300, 0.02, 0.4, 6.0
    source = nd.PoissonInput(N, n, 20 * u.Hz, w * u.nS, method=method)
    g = nd.unroll(nd.Expon(N, tau=tau * u.ms), source(120, generator=generator(5)), compile=False)[-1]
    decay = math.exp(-1 / tau)
    mean, variance = n * p * w / (1 - decay), n * p * (1 - p) * w**2 / (1 - decay**2)
    assert abs(g.mean().item() - mean) < 4 * math.sqrt(variance / N)
    assert abs(g.var().item() - variance) < 4 * variance * math.sqrt(2.1 / N)  # 2.1: kurtosis of a sum of few jumps


def test_weight_units():
    torch.testing.assert_close(nd.PoissonInput(3, 1, 1000 * u.Hz, 2 * u.uS).at(0), torch.full((3,), 2e3))
    assert nd.PoissonInput(3, 1, 1000 * u.Hz, 2.0, dtype=torch.float32).at(0).dtype == torch.float32
    with pytest.raises(ValueError, match="does not broadcast"):
        nd.PoissonInput(3, 1, 1000 * u.Hz, torch.ones(4))


def test_sources_follow_the_module():
    source = torch.nn.Sequential(nd.PoissonSpike(4, 200 * u.Hz)).float()[0]
    assert source(3).dtype == torch.float32
    assert source.state_dict() == {}
    assert "freqs=0.2 1 / ms" in repr(source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sources_in_low_precision_are_those_of_float32(dtype):
    """20 Hz at 0.1 ms was 22.5 Hz in float16."""
    makers = (
        lambda dtype: nd.PoissonSpike(500, 20 * u.Hz, dt=0.1 * u.ms, dtype=dtype, seed=1),
        lambda dtype: nd.PoissonInput(500, 3000, 20 * u.Hz, 1.0, dt=0.1 * u.ms, dtype=dtype, seed=1),
        lambda dtype: nd.PoissonInput(500, 3000, 20 * u.Hz, 1.0, method="normal", dt=0.1 * u.ms, dtype=dtype, seed=1),
    )
    for make in makers:
        wanted = make(torch.float32)(200, generator=generator(1)).to(dtype)
        for source in (make(dtype), make(torch.float32).to(dtype), make(torch.float64).half().bfloat16().to(dtype)):
            found = source(200, generator=generator(1))
            assert found.dtype == source.at(0).dtype == dtype
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_encoded_rates_in_low_precision(dtype):
    rate = torch.tensor(2.0**-9, dtype=dtype)  # 1/ms, exact in both; the random numbers were multiples of 2^-11, 2^-8
    spikes = nd.PoissonEncoder(dt=0.125 * u.ms)(rate.expand(1000), 2000, generator=generator(1))
    assert spikes.dtype == dtype
    p = 2.0**-12
    assert abs(spikes.double().mean().item() - p) < 4 * math.sqrt(p / 2e6)
