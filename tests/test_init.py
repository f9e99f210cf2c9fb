import math

import pint
import pytest
import torch
from scipy import stats

import neurodyn as nd
from neurodyn import init
from neurodyn import units as u


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


RANDOM = [
    (lambda g: init.Normal(20 * u.ms, 2 * u.ms, g), stats.norm(20, 2)),
    (lambda g: init.Uniform(5 * u.ms, 9 * u.ms, g), stats.uniform(5, 4)),
    (lambda g: init.TruncatedNormal(20 * u.ms, 4 * u.ms, 16 * u.ms, 28 * u.ms, g), stats.truncnorm(-1, 2, 20, 4)),
]


@pytest.mark.parametrize(("build", "distribution"), RANDOM)
def test_distribution(build, distribution):
    values = build(seeded())((40, 500))
    assert values.units == u.ms
    assert values.magnitude.shape == (40, 500)
    assert stats.kstest(values.magnitude.flatten().numpy(), distribution.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("build", "distribution"), RANDOM)
def test_reproducible_by_generator_and_by_the_global_seed(build, distribution):
    first = build(seeded(3))((50,)).magnitude
    assert torch.equal(build(seeded(3))((50,)).magnitude, first)
    assert not torch.equal(build(seeded(4))((50,)).magnitude, first)
    one = build(seeded(3))
    assert not torch.equal(one((50,)).magnitude, one((50,)).magnitude)  # two populations differ
    draws = []
    for _ in range(2):
        torch.manual_seed(9)
        draws.append(build(None)((50,)).magnitude)
    assert torch.equal(*draws)


def test_any_compatible_unit():
    values = init.Normal(0.02 * u.s, 2000 * u.us, seeded())((50,))
    assert torch.allclose(values.magnitude, init.Normal(20 * u.ms, 2 * u.ms, seeded())((50,)).magnitude)
    assert values.units == u.ms
    assert init.Uniform(0.1, 0.9)((3,)).dimensionless
    assert init.Constant(3 * u.nS)((2, 3)).magnitude.tolist() == [[3, 3, 3], [3, 3, 3]]


def test_wrong_units():
    with pytest.raises(pint.DimensionalityError, match="std must have the dimension of mean"):
        init.Normal(20 * u.ms, 2 * u.mV)((3,))
    with pytest.raises(pint.DimensionalityError, match="std"):
        init.Normal(20 * u.ms, 2)((3,))
    with pytest.raises(pint.DimensionalityError, match="high"):
        init.TruncatedNormal(0.0, 1.0, -1.0, 1 * u.ms)((3,))
    with pytest.raises(pint.DimensionalityError, match=r"LIF\(3\): tau"):
        nd.LIF(3, tau=init.Normal(20 * u.mV, 2 * u.mV))
    with pytest.raises(TypeError, match="tau needs a unit"):
        nd.LIF(3, tau=lambda size: torch.ones(size))


def test_in_a_model():
    lif = nd.LIF((3, 4), tau=init.Uniform(10 * u.ms, 20 * u.ms, seeded()), V_initializer=init.Constant(0.5 * u.mV))
    assert lif.tau.shape == (3, 4)
    lif.reset_state(2)
    assert lif.V.shape == (2, 3, 4)
    assert lif.V.unique().item() == 0.5
    assert nd.LIF(3, tau=init.Normal(20 * u.ms, 1 * u.ms), dtype=torch.float32).tau.dtype == torch.float32
    with pytest.raises(ValueError, match="tau must be positive"):
        nd.LIF(1000, tau=init.Normal(20 * u.ms, 20 * u.ms))


def test_truncation_holds():
    values = init.TruncatedNormal(0.0, 1.0, -0.5, math.inf, seeded())((10_000,)).magnitude
    assert values.min() >= -0.5
    assert values.max() > 2
