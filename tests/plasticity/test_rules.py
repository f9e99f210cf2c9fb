"""Rules of plasticity against independent loops over spikes, closed forms, and each other."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

T, N, M = 60, 6, 4


def trains(seed, *shape, p=0.25):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < p).double()


def teach(rule, pre, post, **signals):
    for t in range(len(pre)):
        rule(pre[t], post[t], **{name: value[t] for name, value in signals.items()})
    return rule.weight


def pairs_loop(w, pre, post, A, B, tau, mu, nearest):
    """Additive or multiplicative STDP of one synapse, by sums over earlier spikes."""
    times = [[], []]
    for t in range(len(pre)):
        before = [sum(math.exp(-(t - s) / tau) for s in (h[-1:] if nearest else h)) for h in times]
        if post[t]:
            w = min(1.0, w + A * (1 - w) ** mu * before[0])
        if pre[t]:
            w = max(0.0, w - B * w**mu * before[1])
        for h, spikes in zip(times, (pre, post), strict=True):
            if spikes[t]:
                h.append(t)
    return w


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_pairs(mu, nearest):
    pre, post = trains(1, T, N), trains(2, T, M)
    start = torch.rand(M, N, generator=torch.Generator().manual_seed(3))
    rule = nd.STDP(linear(start), w_max=1.0, A_plus=0.03, A_minus=0.04, tau_plus=15 * u.ms, tau_minus=15 * u.ms,
                   mu_plus=mu, mu_minus=mu, pairing="nearest" if nearest else "all")  # fmt: skip
    found = teach(rule, pre, post)
    for j in range(M):
        for i in range(N):
            wanted = pairs_loop(start[j, i].item(), pre[:, i], post[:, j], 0.03, 0.04, 15, mu, nearest)
            assert abs(found[j, i] - wanted) < 1e-12


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.clone())
    return layer


RULES = {
    "STDP": (lambda c, **v: nd.STDP(c, w_max=1.0, A_plus=0.03, mu_minus=1.0, **v), None),
    "Triplet": (lambda c, **v: nd.TripletSTDP(c, w_max=1.0, A2_plus=0.02, **v), None),
    "Vogels": (lambda c, **v: nd.VogelsSprekeler(c, w_max=1.0, eta=0.02, **v), None),
    "Reward": (lambda c, **v: nd.RewardSTDP(c, w_max=1.0, A_plus=0.2, A_minus=0.1, **v), "reward"),
    "Voltage": (lambda c, **v: nd.VoltageSTDP(c, w_max=1.0, A_LTP=1e-3 / u.mV**2, **v), "V"),
    "Calcium": (lambda c, **v: nd.CalciumPlasticity(c, w_max=1.0, tau=5 * u.s, **v), None),
    "Oja": (lambda c, **v: nd.Oja(c, **v), None),
    "BCM": (lambda c, **v: nd.BCM(c, **v), None),
    "Scaling": (lambda c, **v: nd.SynapticScaling(c, tau=1 * u.s, tau_r=50 * u.ms, **v), None),
}


def signals(kind, *batch, post=M):
    random = torch.Generator().manual_seed(9)
    if kind == "reward":
        return {"reward": torch.randn(T, *batch, generator=random)}
    return {} if kind is None else {"V": -60 + 30 * torch.rand(T, *batch, post, generator=random)}


@pytest.mark.parametrize("name", RULES)
def test_dense_masked_and_sparse_are_the_same(name):
    build, kind = RULES[name]
    pre, post, given = trains(1, T, 3, N), trains(2, T, 3, M), signals(kind, 3)
    mask, start = trains(4, M, N, p=0.5), torch.rand(M, N, generator=torch.Generator().manual_seed(3))
    i, j = mask.T.nonzero().T  # sorted by input
    sparse = nd.Sparse((i, j), (N, M), weight=start[j, i])
    masked = nd.MaskedLinear(N, M, mask, weight=start)
    a, b = teach(build(sparse), pre, post, **given), teach(build(masked), pre, post, **given)
    assert_close(a, b[j, i], rtol=1e-12, atol=1e-14)
    assert (a - start[j, i]).abs().max() > 1e-3
    if name not in ("Oja", "Scaling"):  # which change weights that are not there, and their product is 0 as well
        assert_close(b * (1 - mask), start * (1 - mask))
    c = build(linear(start))
    assert_close(teach(c, pre, post, **given)[j, i], a, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", RULES)
def test_one_to_one_is_the_diagonal(name):
    build, kind = RULES[name]
    pre, post, given = trains(1, T, M), trains(2, T, M), signals(kind)
    start = torch.rand(M, generator=torch.Generator().manual_seed(3))
    one = teach(build(nd.OneToOne(M, weight=start)), pre, post, **given)
    index = torch.arange(M)
    assert_close(one, teach(build(nd.Sparse((index, index), (M, M), weight=start)), pre, post, **given))


@pytest.mark.parametrize("name", RULES)
def test_each_sample_by_itself(name):
    build, kind = RULES[name]
    pre, post, given = trains(1, T, 3, N), trains(2, T, 3, M), signals(kind, 3)
    start = torch.rand(M, N, generator=torch.Generator().manual_seed(3))
    for make in (lambda: linear(start), lambda: nd.FixedNum(N, M, 2, weight=0.5, generator=torch.Generator())):
        rule = build(make(), weights="each")
        together = teach(rule, pre, post, **given)
        assert together.shape == (3, *rule.synapses)
        for k in range(3):
            one = {key: value[:, k] for key, value in given.items()}
            assert_close(together[k], teach(build(make()), pre[:, k], post[:, k], **one), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weights", ["restarting", "each"])
@pytest.mark.parametrize("name", ["BCM", "Scaling"])
def test_what_lasts_beside_the_weights_restarts_with_them(name, weights):
    pre, post = trains(1, T, 3, N), trains(2, T, 3, M)
    rule = RULES[name][0](linear(torch.rand(M, N, generator=torch.Generator().manual_seed(3))), weights=weights)
    first, second = [nd.unroll(rule, (pre, post), compile=compiles) for compiles in (False, True)]
    assert_close(first, second, rtol=1e-12, atol=1e-14)
    (key,) = {"theta", "r"} & set(rule.states)
    assert getattr(rule, key).shape == ((3, M) if weights == "each" else (M,))
    assert key not in rule.state_dict()


def test_a_batch_changes_shared_weights_by_the_mean():
    pre, post = trains(1, 2, 3, N, p=0.5), trains(2, 2, 3, M, p=0.5)
    start = torch.full((M, N), 0.5)
    build = lambda: nd.STDP(linear(start), w_max=1.0, A_plus=0.01, A_minus=0.0)  # noqa: E731
    found = teach(build(), pre, post)
    single = [teach(build(), pre[:, k], post[:, k]) - start for k in range(3)]
    assert_close(found - start, torch.stack(single).mean(0))


def test_reward_of_one_is_stdp():
    values = {"w_max": 10.0, "A_plus": 0.01, "A_minus": 0.008}
    pre, post = trains(1, T, N), trains(2, T, M)
    start = torch.full((M, N), 5.0)
    plain = teach(nd.STDP(linear(start), **values), pre, post)
    rule = nd.RewardSTDP(linear(start), tau_c=40 * u.ms, **values)
    teach(rule, pre, post, reward=torch.ones(T))
    for _ in range(2000):
        rule(torch.zeros(N), torch.zeros(M), reward=1.0)
    assert_close(rule.weight, plain, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"reward has shape \(2,\), wanted \(\) or \(\)"):
        rule(torch.zeros(N), torch.zeros(M), reward=torch.ones(2))


def test_reward_against_a_loop():
    """The eligibility decays in one number for all, which begins anew several times here; weights come to bounds."""
    pre, post, steps = trains(1, 200, N), trains(2, 200, M), torch.Generator().manual_seed(3)
    reward = torch.where(torch.rand(200, generator=steps) < 0.3, torch.randn(200, generator=steps), 0.0)
    i, j = torch.ones(N, M).nonzero().T
    start = torch.full((N * M,), 0.5)
    values = {"w_max": 1.0, "A_plus": 1.0, "A_minus": 0.7, "tau_c": 3 * u.ms}
    rules = [nd.RewardSTDP(c, **values) for c in (nd.Sparse((i, j), (N, M), weight=start), linear(start.view(N, M).T))]
    w, x, y, c, least = start.clone(), torch.zeros(N), torch.zeros(M), torch.zeros(N * M), 1.0
    for t in range(200):
        for rule in rules:
            rule(pre[t], post[t], reward=reward[t])
        x, y, left = x * math.exp(-1 / 20), y * math.exp(-1 / 20), c * math.exp(-1 / 3)
        w = (w + reward[t] * (c - left)).clamp(0, 1)
        c = left + post[t][j] * x[i] - 0.7 * y[j] * pre[t][i]
        x, y, least = x + pre[t], y + post[t], min(least, float(rules[0].left))
    assert 1e-6 < least < 1e-5
    assert 0 < int(((w == 0) | (w == 1)).sum()) < N * M
    for rule, k in zip(rules, (slice(None), None), strict=True):
        for found, wanted in ((rule.weight, w), (rule.c, c)):
            assert_close(found if k else found.T.flatten(), wanted, rtol=1e-12, atol=1e-13)


def test_a_reward_after_the_trial():
    """It does as much as one that stays until nothing is eligible, and samples change shared weights by their mean."""
    pre, post = trains(1, 30, 3, N), trains(2, 30, 3, M)
    values = {"w_max": 2.0, "A_plus": 0.01, "A_minus": 0.02, "tau_c": 10 * u.ms}
    i, j = torch.ones(N, M).nonzero().T
    for make in (lambda: linear(torch.full((M, N), 1.0)), lambda: nd.Sparse((i, j), (N, M), weight=1.0)):
        one, other = nd.RewardSTDP(make(), **values), nd.RewardSTDP(make(), **values)
        for rule in (one, other):
            with pytest.raises(nd.UnsetState, match=r"deliver\(\) comes after the steps of a trial"):
                rule.deliver(1.0)
            teach(rule, pre, post, reward=torch.zeros(30))
            assert bool((rule.weight == 1).all())
        reward = torch.tensor([0.5, -1.0, 2.0])
        wanted = 1 + 2 * (one.c * reward.view(3, *[1] * (one.c.dim() - 1))).mean(0)
        one.deliver(reward)
        for _ in range(350):
            other(torch.zeros(3, N), torch.zeros(3, M), reward=reward)
        assert_close(one.weight, wanted, rtol=1e-12, atol=1e-12)
        assert_close(other.weight, wanted, rtol=1e-12, atol=1e-12)
        assert (one.weight - 1).abs().max() > 0.01
        with pytest.raises(ValueError, match=r"reward has shape \(2,\), wanted \(\) or \(3,\)"):
            one.deliver(torch.ones(2))
        with pytest.raises(TypeError, match="reward"):
            one.deliver(1.0 * u.nS)


def test_vogels_rests_at_the_target_rate():
    rate = 0.05  # for each step
    pre, post = trains(1, 8000, 1, p=0.05), trains(2, 8000, 1, p=rate)
    drift, some = [], (pre + post).squeeze(1).nonzero().squeeze(1)
    for target in (25, 50, 100):
        before = -1
        rule = nd.VogelsSprekeler(nd.OneToOne(1, weight=[5e5]), w_max=1e6, eta=1e-6, rate=target * u.Hz)
        for t in some.tolist():  # between spikes there is only decay
            rule.dt, before = float(t - before), t
            rule(pre[t], post[t])
        drift.append((rule.weight.item() - 5e5) / pre.sum())
    assert drift[0] > 0.8 > abs(drift[1])
    assert drift[2] < -0.8


@pytest.mark.parametrize("homeostasis", [False, True])
def test_voltage_against_a_loop(homeostasis):
    pre, V = trains(1, T, 1)[:, 0], signals("V", post=1)["V"][:, 0]
    values = {"homeostasis": homeostasis, "tau_mean": 20 * u.ms, "u_ref": 30 * u.mV, "V_rest": -70 * u.mV}
    rule = nd.VoltageSTDP(nd.OneToOne(1, weight=[0.5]), w_max=2.0, A_LTP=1e-3 / u.mV**2, dt=0.5 * u.ms, **values)
    found = teach(rule, pre[:, None], pre[:, None], V=V[:, None]).item()
    w, x, low, high, m = 0.5, 0.0, -70.6, -70.6, 60.0
    for s, v in zip(pre.tolist(), V.tolist(), strict=True):
        x *= math.exp(-0.5 / 15)
        w = min(w + 0.5 * 2 * 1e-3 * x * max(v + 45.3, 0) * max(high + 70.6, 0), 2.0)
        w = max(w - 2 * 14e-5 * (m / 900 if homeostasis else 1) * max(low + 70.6, 0) * s, 0.0)
        m = (v + 70) ** 2 + (m - (v + 70) ** 2) * math.exp(-0.5 / 20)
        x += s / 15
        low, high = (v + (z - v) * math.exp(-0.5 / tau) for z, tau in ((low, 10), (high, 7)))
    assert abs(found - w) < 1e-12
    assert abs(w - 0.5) > 0.01
    with pytest.raises(ValueError, match=r"V has shape \(2,\), wanted \(1,\), in mV"):
        rule(torch.zeros(1), torch.zeros(1), V=torch.zeros(2))


def test_calcium_against_fine_steps():
    pre, post = trains(1, T, 1, p=0.05)[:, 0], trains(2, T, 1, p=0.05)[:, 0]
    rule = nd.CalciumPlasticity(nd.OneToOne(1, weight=[0.3]), w_max=1.0)
    found = teach(rule, pre[:, None], post[:, None]).item()
    rho, c, fine = 0.3, 0.0, 2000
    for a, b in zip(pre.tolist(), post.tolist(), strict=True):
        c += a + 2 * b
        for _ in range(fine):
            middle = c * math.exp(-0.5 / fine / 20)
            slope = -rho * (1 - rho) * (0.5 - rho) + 321.808 * (1 - rho) * (middle > 1.3) - 200 * rho * (middle > 1)
            rho, c = rho + slope / fine / 150_000, c * math.exp(-1 / fine / 20)
    assert abs(rho - 0.3) > 0.01
    assert abs(found - rho) < 320 / 150_000 * abs(rho - 0.3)  # the step of Euler's


def test_calcium_noise():
    """Calcium above both thresholds makes the efficacy an Ornstein-Uhlenbeck process; elsewhere there is no noise."""
    n, random = 4000, torch.Generator().manual_seed(1)
    values = {"w_max": 2.0, "sigma": 1.0, "tau": 20 * u.s, "C_pre": 5.0, "theta_d": 0.1, "theta_p": 0.1}
    rule = nd.CalciumPlasticity(nd.OneToOne(n, weight=torch.ones(n)), **values)
    for _ in range(250):
        rule(torch.ones(n), torch.zeros(n), noise=torch.randn(n, generator=random))
    rho, rates = rule.weight / 2, 321.808 + 200
    assert abs(rho.mean() - 321.808 / rates) < 0.003
    assert abs(rho.var() * rates - 1) < 0.08
    quiet = nd.CalciumPlasticity(nd.OneToOne(2, weight=[0.3, 0.3]), w_max=1.0)
    quiet(torch.zeros(2), torch.zeros(2), noise=torch.tensor([5.0, -5.0]))
    assert float(quiet.weight[0]) == float(quiet.weight[1])
    quiet(torch.ones(2), torch.ones(2), noise=torch.tensor([1.0, -1.0]))  # a step above both
    change = 2 * 2.8284 * math.sqrt(2 / 150_000)
    assert abs(float(quiet.weight[0] - quiet.weight[1]) - change) < 1e-12
    with pytest.raises(ValueError, match=r"noise has shape \(3,\), wanted \(2,\), one for each synapse"):
        quiet(torch.ones(2), torch.ones(2), noise=torch.ones(3))


def test_noise_of_samples_that_share_weights_is_their_mean():
    rule = nd.CalciumPlasticity(linear(torch.full((M, N), 0.5)), w_max=1.0)
    noise = torch.randn(3, M, N, generator=torch.Generator().manual_seed(1))
    plain = nd.CalciumPlasticity(linear(torch.full((M, N), 0.5)), w_max=1.0)
    for each, given in ((rule, {"noise": noise}), (plain, {})):
        each(torch.ones(3, N), torch.ones(3, M), **given)
    assert_close(rule.weight - plain.weight, 2.8284 * math.sqrt(2 / 150_000) * noise.mean(0))


def test_oja_finds_the_principal_component():
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=random)
    xs = torch.randn(20, 500, 5, generator=random) @ mixing.T / 3
    rule = nd.Oja(linear(torch.full((1, 5), 0.1)), eta=0.05)
    for _ in range(50):
        for x in xs:
            rule.learn(rule(x))
    _, _, directions = torch.linalg.svd(xs.reshape(-1, 5), full_matrices=False)
    assert abs((rule.weight[0] @ directions[0]).abs() - 1) < 1e-2


def test_bcm_chooses_one_of_two_patterns():
    rule = nd.BCM(linear(torch.tensor([[0.5, 0.4]])), eta=0.005, tau=50 * u.ms)
    random = np.random.default_rng(0)
    for k in random.integers(0, 2, 8000):
        rule.learn(rule(torch.eye(2)[k]))
    high, low = rule.weight[0].tolist()
    assert high == pytest.approx(2, rel=0.15)  # the mean square of its output, 1/2 w^2, is w
    assert abs(low) < 0.1


def test_threshold_adaptation_reaches_its_rate():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nd.LIF(3)
            self.homeostasis = nd.ThresholdAdaptation(3, rate=40 * u.Hz, eta=0.1 * u.mV)

        def forward(self, I):
            spikes = self.neuron(I - self.homeostasis.read() / self.neuron.R)
            self.homeostasis(spikes)
            return spikes

    spikes = nd.unroll(Layer(), torch.tensor([0.5, 1.0, 2.0]).expand(4000, 2, 3), compile=False)
    assert_close(spikes[2000:].mean((0, 1)), torch.full((3,), 0.04), rtol=0.03, atol=0)
