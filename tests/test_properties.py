"""What holds for any input; the inputs are hypothesis's."""

import pytest
import torch
from catalogue import MODELS, Model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neurodyn as nd
from neurodyn import units as u

T, BATCH, SIZE = 12, 3, 4
fast = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)
each = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def run(model: Model, xs: torch.Tensor, **values) -> torch.Tensor:
    return nd.unroll(model(xs.shape[-1], **values), xs, compile=False)


@each
@fast
@given(seed=seeds, order=st.permutations(range(SIZE)), sample=st.integers(0, BATCH - 1))
def test_neurons_and_samples_are_independent(model, seed, order, sample):
    xs = model.input(T, BATCH, SIZE, seed=seed)
    ys = run(model, xs)
    assert torch.equal(run(model, xs[:, sample]), ys[:, sample])
    assert torch.equal(run(model, xs[..., order]), ys[..., order])


@each
@fast
@pytest.mark.filterwarnings("ignore::neurodyn.NaNWarning")
@given(seed=seeds, step=st.integers(0, T - 1), neuron=st.integers(0, SIZE - 1), sample=st.integers(0, BATCH - 1))
def test_a_nan_stays_in_its_own_neuron(model, seed, step, neuron, sample):
    xs = model.input(T, BATCH, SIZE, seed=seed)
    clean, spoilt = run(model, xs), xs.clone()
    spoilt[step, sample, neuron] = float("nan")
    ys = run(model, spoilt)
    elsewhere = torch.ones(BATCH, SIZE, dtype=torch.bool)
    elsewhere[sample, neuron] = False
    assert torch.equal(ys[:, elsewhere], clean[:, elsewhere])
    assert torch.equal(ys[:step], clean[:step])


@each
@fast
@given(seed=seeds, steps=st.integers(0, T))
def test_reset_forgets_and_is_idempotent(model, seed, steps):
    layer, xs = model(SIZE), model.input(T, BATCH, SIZE, seed=seed)
    layer.reset_state(BATCH)
    for x in xs[:steps]:
        layer(x)
    layer.reset_state(BATCH)
    once = {name: value.clone() for name, value in nd.get_states(layer).items()}
    layer.reset_state(BATCH)
    assert all(torch.equal(once[name], value) for name, value in nd.get_states(layer).items())
    assert torch.equal(torch.stack([layer(x) for x in xs]), run(model, xs))


@pytest.mark.parametrize("cls", [nd.STP, nd.STD])
@fast
@given(
    spikes=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    U=st.floats(0, 1),
    tau=st.floats(1e-3, 1e6),
    dt=st.floats(1e-3, 1e3),
)
def test_plasticity_stays_between_0_and_1_for_any_spikes(cls, spikes, U, tau, dt):
    taus = {"tau_f": tau * u.ms, "tau_d": 3 * tau * u.ms} if cls is nd.STP else {"tau": tau * u.ms}
    layer = cls(1, U=U, dt=dt * u.ms, **taus)
    for spike in spikes:
        release = layer(torch.tensor([spike]))
        assert 0 <= release.item() <= 1
        for value in nd.get_states(layer).values():
            assert 0 <= value.item() <= 1


@pytest.mark.parametrize("cls", [nd.Expon, nd.DualExpon, nd.Alpha])
@fast
@given(seed=seeds, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_synapses_superpose(cls, seed, a, b):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, T, SIZE, generator=generator).unbind()
    together = nd.unroll(cls(SIZE), a * x + b * y, compile=False)
    apart = a * nd.unroll(cls(SIZE), x, compile=False) + b * nd.unroll(cls(SIZE), y, compile=False)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cls", [nd.Expon, nd.DualExpon, nd.Alpha, nd.STP, nd.LIF])
@fast
@given(seed=seeds, late=st.integers(0, T))
def test_models_at_rest_do_not_know_the_time(cls, seed, late):
    xs = torch.rand(T, SIZE, generator=torch.Generator().manual_seed(seed))
    shifted = torch.cat([torch.zeros(late, SIZE), xs])
    ys = nd.unroll(cls(SIZE), shifted, compile=False)
    torch.testing.assert_close(ys[late:], nd.unroll(cls(SIZE), xs, compile=False), rtol=1e-12, atol=1e-13)


@fast
@given(seed=seeds, steps=st.lists(st.integers(0, T), min_size=SIZE, max_size=SIZE))
def test_a_delay_is_a_shift(seed, steps):
    xs = torch.rand(T, BATCH, SIZE, generator=torch.Generator().manual_seed(seed))
    ys = nd.unroll(nd.Delay(SIZE, u.quantity(torch.tensor(steps) * 1.0, "ms")), xs, compile=False)
    for neuron, d in enumerate(steps):
        shifted = torch.cat([torch.zeros(d, BATCH), xs[..., neuron]])[:T]
        assert torch.equal(ys[..., neuron], shifted)
