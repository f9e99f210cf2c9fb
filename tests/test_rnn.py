import pytest
import torch
from reference.traces import load
from torch import nn
from torch.testing import assert_close

import neurodyn as nd


def load_linear(linear, trace, name):
    with torch.no_grad():
        linear.weight.copy_(trace[f"w_{name}_weight"].T)
        if linear.bias is not None:
            linear.bias.copy_(trace[f"w_{name}_bias"])


@pytest.mark.parametrize(
    ("name", "linears"), [("GRUCell", ["Wrz", "Wh"]), ("MGUCell", ["Wf", "Wh"]), ("URLSTMCell", ["W"])]
)
@pytest.mark.parametrize("compile", [False, True])
def test_trace(name, linears, compile):
    trace = load(f"rnn_{name}")
    cell = getattr(nd, name)(4, 5)
    for linear in linears:
        load_linear(getattr(cell, linear), trace, linear)
    if name == "URLSTMCell":
        cell.bias.data.copy_(trace["w_bias"])
    start = {key: trace[f"init_{key}"] for key in cell.states}
    out, final = nd.unroll(cell, trace["in_x"], states=start, return_states=True, compile=compile)
    assert_close(out.detach(), trace["out"], rtol=1e-9, atol=1e-9)
    for key in cell.states:
        assert_close(final[key].detach(), trace[f"st_{key}"][-1], rtol=1e-9, atol=1e-9)


def test_vanilla_cell_is_torch_rnn_cell():
    trace = load("rnn_ValinaRNNCell")
    cell, h = nn.RNNCell(4, 5, nonlinearity="relu"), trace["init_h"]
    W, b = trace["w_W_weight"].T, trace["w_W_bias"]
    cell.load_state_dict({"weight_ih": W[:, :4], "weight_hh": W[:, 4:], "bias_ih": b, "bias_hh": 0 * b})
    for x, wanted in zip(trace["in_x"], trace["st_h"], strict=True):
        h = cell(x, h)
        assert_close(h.detach(), wanted, rtol=1e-9, atol=1e-9)


def test_lstm_cell_is_torch_lstm_cell_after_reordering():
    trace = load("rnn_LSTMCell")
    cell, h, c = nn.LSTMCell(4, 5), trace["init_h"], trace["init_c"]

    def reordered(rows):
        i, g, f, o = rows.chunk(4)
        return torch.cat([i, f, g, o])

    W, b = reordered(trace["w_W_weight"].T), reordered(trace["w_W_bias"])
    b[5:10] += 1  # the forget gate
    cell.load_state_dict({"weight_ih": W[:, :4], "weight_hh": W[:, 4:], "bias_ih": b, "bias_hh": 0 * b})
    for x, wanted_h, wanted_c in zip(trace["in_x"], trace["st_h"], trace["st_c"], strict=True):
        h, c = cell(x, (h, c))
        assert_close(h.detach(), wanted_h, rtol=1e-9, atol=1e-9)
        assert_close(c.detach(), wanted_c, rtol=1e-9, atol=1e-9)


def test_gru_cell_is_not_torch_gru_cell():
    """Even with z for 1 - z: r stands before the matrix here and after it there."""
    ours, theirs = nd.GRUCell(4, 5), nn.GRUCell(4, 5)
    rz, n = ours.Wrz.weight.detach(), ours.Wh.weight.detach()
    weight = torch.cat([rz[:5], -rz[5:], n])  # sigmoid(-a) = 1 - sigmoid(a)
    zero = torch.zeros(15)
    theirs.load_state_dict({"weight_ih": weight[:, :4], "weight_hh": weight[:, 4:], "bias_ih": zero, "bias_hh": zero})
    x, h = torch.randn(3, 4), torch.randn(3, 5)
    ours.reset_state(3)
    assert_close(ours(x), theirs(x))  # from h = 0
    nd.set_states(ours, {"h": h})
    assert (ours(x) - theirs(x, h)).abs().max() > 1e-3


@pytest.mark.parametrize("cls", [nd.GRUCell, nd.MGUCell, nd.URLSTMCell])
def test_states_and_gradients(cls):
    cell = cls(4, 5, dtype=torch.float64)
    nd.reset_states(cell, 2, 3)
    assert cell(torch.randn(2, 3, 4)).shape == cell.h.shape == (2, 3, 5)
    with pytest.raises(
        ValueError, match=rf"{cls.__name__}\(5\): the input has shape \(2, 3, 5\), wanted \(\*batch, 4\)"
    ):
        cell(torch.randn(2, 3, 5))
    nd.unroll(cell, torch.randn(6, 3, 4), compile=False).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in cell.parameters())
    relu = cls(4, 5, activation=torch.relu)
    assert (nd.unroll(relu, torch.randn(6, 3, 4), compile=False) >= 0).all()
    with pytest.raises(TypeError, match="activation must be a function"):
        cls(4, 5, activation="tanh")


@pytest.mark.parametrize("n", [1, 2, 50])
def test_uniform_forget_gates(n):
    beta = nd.URLSTMCell(3, n).bias.detach().sigmoid()
    assert (beta >= min(1 / n, 0.5) - 1e-12).all()
    assert (beta <= max(1 - 1 / n, 0.5) + 1e-12).all()
