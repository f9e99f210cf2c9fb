"""R of IF, LIF, LIFRef and ALIF that is not given: an input of 1 for one step moves V by 1 mV."""

import math

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

MODELS = [nd.IF, nd.LIF, nd.LIFRef, nd.ALIF]
every = pytest.mark.parametrize("model", MODELS)


@every
@pytest.mark.parametrize("dt", [0.01, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("tau", [0.5, 5.0, 2000.0])
def test_an_input_of_one_moves_v_by_one(model: type, tau: float, dt: float):
    neuron = model(1, tau=tau * u.ms, dt=dt * u.ms, V_th=9 * u.mV)
    neuron(torch.ones(1))
    assert neuron.V.item() == pytest.approx(1.0, abs=1e-13)
    assert neuron.R.item() == pytest.approx(1 / (1 - math.exp(-dt / tau)), rel=1e-9)


@every
def test_one_value_for_each_neuron_that_has_a_tau_of_its_own(model: type):
    assert model((2, 3), tau=7 * u.ms).R.shape == ()
    for tau in (torch.tensor([2.0, 5.0, 20.0]), torch.tensor([[2.0], [9.0]]), torch.rand(2, 3) + 1):
        neuron = model((2, 3), tau=tau * u.ms, V_th=9 * u.mV)
        assert neuron.R.shape == tau.shape
        neuron(torch.ones(4, 2, 3))
        torch.testing.assert_close(neuron.V, torch.ones(4, 2, 3), rtol=0, atol=1e-14)
    drawn = model(50, tau=nd.init.Uniform(3 * u.ms, 30 * u.ms), V_th=9 * u.mV)
    drawn(torch.ones(50))
    assert drawn.R.unique().numel() == 50
    torch.testing.assert_close(drawn.V, torch.ones(50), rtol=0, atol=1e-14)


@every
def test_a_given_r_is_that_one(model: type):
    assert model(2, R=1 * u.Gohm).R.item() == 1
    own = nn.Parameter(torch.tensor([1.0, 2.0]))
    assert model(2, R=u.quantity(own, "Gohm")).R is own
    with pytest.raises(TypeError, match="R is required, for example R="):
        model(2, R=None)


@every
def test_a_learned_r_starts_there_and_a_learned_tau_leaves_it(model: type):
    neuron = model(3, tau=nd.init.Constant(8 * u.ms), learn=("R", "tau"))
    wanted = torch.full((3,), 1 / (1 - math.exp(-1 / 8)))
    torch.testing.assert_close(neuron.R.detach(), wanted, rtol=1e-14, atol=0)
    assert [name for name, _ in neuron.named_parameters()] == ["raw_R", "raw_tau"]
    neuron.raw_tau.data.fill_(math.log(40.0))
    torch.testing.assert_close(neuron.R.detach(), wanted, rtol=1e-14, atol=0)
    own = nn.Parameter(torch.tensor(4.0))
    assert not model(3, tau=u.quantity(own, "ms")).R.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_has_the_dtype_and_the_rounding_of_the_layer(dtype: torch.dtype):
    neuron = nd.LIF(1, tau=300 * u.ms, dtype=dtype, learn="tau")
    assert neuron.R.dtype == dtype
    assert neuron.R.item() == pytest.approx(1 / (1 - math.exp(-1 / 300)), rel=max(1e-12, 10 * torch.finfo(dtype).eps))


def test_it_is_kept_by_files_and_made_again_by_reset_parameters(tmp_path):
    made = nd.LIF(4, tau=nd.init.Normal(9 * u.ms, 1 * u.ms), dt=0.5 * u.ms)
    other = nd.LIF(4, tau=20 * u.ms, dt=0.5 * u.ms)
    nd.save(tmp_path / "net", net=made)
    nd.load(tmp_path / "net", net=other)
    assert torch.equal(other.R, made.R)
    old = nd.LIF(4, R=1 * u.Gohm, tau=20 * u.ms)
    other.load_state_dict(old.state_dict())
    assert torch.equal(other.R.expand(4), torch.ones(4))

    empty = nd.LIF(4, tau=9 * u.ms, dt=0.5 * u.ms, device="meta").to_empty(device="cpu")
    empty.reset_parameters()
    assert torch.equal(empty.R, nd.LIF(4, tau=9 * u.ms, dt=0.5 * u.ms).R)
    made.reset_parameters()  # draws tau anew, and R with it
    torch.testing.assert_close(made.R, -1 / torch.expm1(-0.5 / made.tau), rtol=1e-14, atol=0)


def test_a_class_of_ones_own_and_repr():
    class Slow(nd.LIF):
        tau = nd.param(50 * u.ms, domain=nd.positive)

    assert Slow(1).R.item() == pytest.approx(1 / (1 - math.exp(-1 / 50)))
    assert "R=50.5017 GΩ" in repr(Slow(1))
    assert "values from" in repr(nd.LIF(2, tau=torch.tensor([5.0, 9.0]) * u.ms))
