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


FANS = {"fan_in": 40 * 9, "fan_out": 30 * 9, "fan_avg": 35 * 9}
PRESETS = [  # as brainstate and jax define them
    (init.KaimingNormal, 2, "fan_in", "truncated"),
    (init.KaimingUniform, 2, "fan_in", "uniform"),
    (init.XavierNormal, 1, "fan_avg", "truncated"),
    (init.XavierUniform, 1, "fan_avg", "uniform"),
    (init.LecunNormal, 1, "fan_in", "truncated"),
    (init.LecunUniform, 1, "fan_in", "uniform"),
    (lambda **values: init.VarianceScaling(0.7, "fan_out", "normal", **values), 0.7, "fan_out", "normal"),
]


@pytest.mark.parametrize(("build", "scale", "fan", "kind"), PRESETS)
def test_variance_scaling(build, scale, fan, kind):
    values = build(unit=u.uS, generator=seeded())((30, 40, 3, 3))
    assert values.units == u.uS
    std = math.sqrt(scale / FANS[fan])
    wide = std / stats.truncnorm(-2, 2).std()
    distribution = {
        "truncated": stats.truncnorm(-2, 2, 0, wide),
        "uniform": stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std),
        "normal": stats.norm(0, std),
    }[kind]
    numbers = values.magnitude.flatten().numpy()
    assert distribution.std() == pytest.approx(std, rel=1e-12)
    assert stats.kstest(numbers, distribution.cdf).pvalue > 1e-4
    assert numbers.std() == pytest.approx(std, rel=0.02)
    assert torch.equal(build(generator=seeded())((30, 40, 3, 3)).magnitude, values.magnitude)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (6, 2, 3)])
def test_orthogonal(shape):
    W = init.Orthogonal(2.0, unit=u.mV)(shape).magnitude.flatten(1)
    product = W @ W.T if len(W) <= W.shape[1] else W.T @ W
    torch.testing.assert_close(product, 4 * torch.eye(len(product)), rtol=0, atol=1e-12)


def test_delta_orthogonal_keeps_the_norm_of_a_signal():
    W = init.DeltaOrthogonal(generator=seeded())((8, 5, 3, 3)).magnitude
    x = torch.randn(2, 5, 7, 7)
    y = torch.nn.functional.conv2d(x, W, padding=1)
    assert y.norm().item() == pytest.approx(x.norm().item(), rel=1e-12)
    assert (W != 0).sum() == 8 * 5


def test_weights_in_connections():
    connection = nd.AllToAll(6, 4, weight=init.KaimingNormal(unit=u.uS))
    assert connection.unit == u.nS
    assert connection.weight.abs().mean() > 50  # 1000 nS in a uS
    assert torch.equal(nd.AllToAll(3, 3, weight=init.Identity(2 * u.nS)).weight, 2 * torch.eye(3))
    assert init.Identity(0.5)((2, 3)).magnitude.tolist() == [[0.5, 0, 0], [0, 0.5, 0]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: init.KaimingNormal()((7,)),
            r"KaimingNormal: wanted the shape \(out, in\) .* got \(7,\); for one value",
        ),
        (lambda: init.Orthogonal()((7,)), "Orthogonal: wanted the shape"),
        (lambda: init.Identity()((7,)), r"Identity: wanted the shape \(out, in\) of a matrix, got \(7,\)"),
        (lambda: init.DeltaOrthogonal()((3, 4, 3)), "at least as many outputs as inputs"),
        (lambda: init.DeltaOrthogonal()((4, 3)), r"got \(4, 3\)"),
        (lambda: init.VarianceScaling(0.0), "scale must be positive, got 0.0"),
        (lambda: init.VarianceScaling(mode="fan"), "mode must be one of 'fan_in', 'fan_out', 'fan_avg', got 'fan'"),
        (lambda: init.XavierNormal(distribution="gauss"), "XavierNormal: distribution must be one of .* got 'gauss'"),
    ],
)
def test_errors_of_weights(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_wrong_unit_of_weights():
    with pytest.raises(pint.DimensionalityError, match=r"conductance, so the weight must be in nS"):
        nd.Projection(nd.AllToAll(3, 2, weight=init.LecunUniform(unit=u.mV)), output=nd.COBA(E=0 * u.mV))


def test_count_parameters():
    linear = torch.nn.Linear(4, 3)
    net = torch.nn.Sequential(linear, nd.LIF(3, learn=("tau", "V_th")), linear)
    assert nd.count_parameters(net) == 15 + 2  # one tau and one V_th for all
    linear.bias.requires_grad_(False)
    assert nd.count_parameters(net) == 14
    assert nd.count_parameters(net, frozen=True) == 17
    assert nd.count_parameters(nd.LIF(3)) == 0
