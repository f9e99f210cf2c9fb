"""STP and STD against a map from spike to spike that knows nothing of time steps."""

import math

import pytest
import torch
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

U, TAU_F, TAU_D, DT = 0.22, 800.0, 130.0, 0.5


@pytest.fixture
def steps():
    """The steps of 200 irregular spikes, some in neighbouring steps."""
    generator = torch.Generator().manual_seed(5)
    gaps = 1 + torch.empty(200).exponential_(0.02, generator=generator).floor()
    gaps[50:54] = 1
    return gaps.cumsum(0).long()


def on_grid(model, steps):
    spikes = torch.zeros(int(steps[-1]) + 1, 1)
    spikes[steps] = 1
    release = nd.unroll(model, spikes, compile=False)
    assert not release[spikes == 0].any()
    return release[steps, 0].tolist()


def test_stp_tsodyks_markram(steps):
    model = nd.STP(1, U=U, tau_f=TAU_F * u.ms, tau_d=TAU_D * u.ms, dt=DT * u.ms)
    found, u_, x, before = on_grid(model, steps), 0.0, 1.0, None
    for step, release in zip(steps.tolist(), found, strict=True):
        if before is not None:
            gap = (step - before) * DT
            u_, x = u_ * math.exp(-gap / TAU_F), 1 - (1 - x) * math.exp(-gap / TAU_D)
        u_ = u_ + U * (1 - u_)
        assert abs(release - u_ * x) <= 1e-12
        x, before = x - u_ * x, step
    assert max(found) > 1.2 * found[0]  # it facilitates
    assert min(found) < 0.5 * found[0]  # and depresses


@pytest.mark.parametrize("tau_in", [3.0, TAU_D, 300.0])
def test_inactive_resources_of_the_paper(steps, tau_in):
    """From spike to spike by the matrix exponential of x, y and z = 1 - x - y."""
    steps = steps[:60]
    times = {"tau_f": TAU_F * u.ms, "tau_d": TAU_D * u.ms, "tau_in": tau_in * u.ms}
    found, u_, before = on_grid(nd.STPInactive(1, U=U, dt=DT * u.ms, **times), steps), 0.0, None
    rates = torch.tensor([[0.0, 0.0, 1 / TAU_D], [0.0, -1 / tau_in, 0.0], [0.0, 1 / tau_in, -1 / TAU_D]])
    xyz = torch.tensor([1.0, 0.0, 0.0])
    for step, release in zip(steps.tolist(), found, strict=True):
        if before is not None:
            gap = (step - before) * DT
            u_, xyz = u_ * math.exp(-gap / TAU_F), torch.linalg.matrix_exp(gap * rates) @ xyz
        u_ = u_ + U * (1 - u_)
        moved = u_ * xyz[0].item()
        assert abs(release - moved) <= 1e-10  # of the matrix exponential
        xyz, before = xyz + torch.tensor([-moved, moved, 0.0]), step


def test_limits_of_the_times(steps):
    steps = steps[:60]
    expected = on_grid(nd.STD(1, U=U, tau=TAU_D * u.ms, dt=DT * u.ms), steps)
    values = {"U": U, "tau_f": 0 * u.ms, "tau_d": TAU_D * u.ms, "dt": DT * u.ms}
    assert on_grid(nd.STP(1, **values), steps) == pytest.approx(expected, rel=1e-13)
    assert on_grid(nd.STPInactive(1, tau_in=1e-9 * u.ms, **values), steps) == pytest.approx(expected, rel=1e-8)


def test_gradients_beside_no_facilitation():
    for model in (nd.STP, nd.STPInactive):
        layer = model(1, tau_f=0 * u.ms, learn=("U", "tau_d"))
        nd.unroll(layer, torch.ones(5, 1), compile=False).sum().backward()
        assert all(p.grad.isfinite().all() and (p.grad != 0).all() for p in layer.parameters())


def test_without_facilitation_the_rule_of_brainstate_is_that_of_std():
    with pytest.raises(ValueError, match=r"STP\(1\): with rule='brainstate' tau_f must be positive, .* take nd.STD"):
        nd.STP(1, rule="brainstate", tau_f=0 * u.ms)


def test_stp_brainstate(steps):
    """There, jump and depletion use u and x of the step before: a decay of one step less."""
    model = nd.STP(1, U=U, tau_f=TAU_F * u.ms, tau_d=TAU_D * u.ms, dt=DT * u.ms, rule="brainstate")
    u_, x, before = U, 1.0, -1
    for step, release in zip(steps.tolist(), on_grid(model, steps), strict=True):
        gap = (step - before - 1) * DT  # to the step before the spike
        u_, x = u_ * math.exp(-gap / TAU_F), 1 - (1 - x) * math.exp(-gap / TAU_D)
        u_new = u_ * math.exp(-DT / TAU_F) + U * (1 - u_)
        x = 1 - (1 - x) * math.exp(-DT / TAU_D) - u_new * x
        assert abs(release - u_new * x) <= 1e-12
        u_, before = u_new, step


def test_std_both_rules(steps):
    for rule in ("tsodyks-markram", "brainstate"):
        model = nd.STD(1, U=U, tau=TAU_D * u.ms, dt=DT * u.ms, rule=rule)
        x, before = 1.0, -1
        for step, release in zip(steps.tolist(), on_grid(model, steps), strict=True):
            gap = (step - before - 1) * DT
            x = 1 - (1 - x) * math.exp(-gap / TAU_D)
            rested = 1 - (1 - x) * math.exp(-DT / TAU_D)
            if rule == "brainstate":
                x = rested - U * x
                assert abs(release - x) <= 1e-12
            else:
                assert abs(release - U * rested) <= 1e-12
                x = rested * (1 - U)
            before = step


@pytest.mark.parametrize("rule", ["tsodyks-markram", "brainstate"])
@pytest.mark.parametrize("p", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("U", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("dt", [0.1, 5.0])
def test_u_and_x_stay_between_0_and_1(rule, p, U, dt):
    spikes = (torch.rand(400, 8) < p).double()
    for model in (
        nd.STP(8, U=U, tau_f=30 * u.ms, tau_d=20 * u.ms, rule=rule, dt=dt * u.ms),
        nd.STD(8, U=U, tau=20 * u.ms, rule=rule, dt=dt * u.ms),
    ):
        model.reset_state()
        for s in spikes:
            release = model(s)
            values = [release, model.x, *([model.u] if "u" in model.states else [])]
            assert all((v >= -1e-15).all() and (v <= 1 + 1e-15).all() for v in values)


def test_graded_spikes_scale_jump_and_release():
    model = nd.STP(1, U=0.4)
    assert_close(model(torch.tensor([0.5])).item(), 0.5 * (0.5 * 0.4))
    assert_close(model.x.item(), 1 - 0.5 * 0.2)


def test_rules_differ_where_the_documentation_says():
    spike = torch.ones(1)
    assert_close(nd.STP(1)(spike).item(), 0.15)
    assert_close(nd.STP(1, rule="brainstate")(spike).item(), 0.2775 * (1 - 0.2775), rtol=0, atol=1e-3)
    assert_close(nd.STD(1)(spike).item(), 0.07)
    assert_close(nd.STD(1, rule="brainstate")(spike).item(), 0.93)
    with pytest.raises(ValueError, match="rule must be"):
        nd.STP(1, rule="markram")


def test_plasticity_acts_on_spikes_in_a_projection():
    """Plasticity once acted on the filtered conductance, or was lost in an event-driven product."""
    connection = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(connection.weight, 2.0)
    projection = nd.Projection(connection, synapse=nd.Expon(1, tau=8 * u.ms), plasticity=nd.STD(1, U=0.5))
    plain = nd.Projection(connection, synapse=nd.Expon(1, tau=8 * u.ms))
    spikes = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
    g, other = nd.unroll(projection, spikes, compile=False), nd.unroll(plain, spikes, compile=False)
    release = nd.unroll(nd.STD(1, U=0.5), spikes, compile=False)
    jumps = g - torch.cat([torch.zeros(1, 1), g[:-1]]) * math.exp(-1 / 8)
    assert_close(jumps, 2 * release)
    assert (g < other).all()
