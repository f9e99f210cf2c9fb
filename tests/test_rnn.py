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


@pytest.mark.parametrize("compile", [False, True])
def test_vanilla_cell_of_brainstate(compile):
    trace = load("rnn_ValinaRNNCell")
    cell = nd.RNNCell(4, 5, activation=torch.relu)
    W, b = trace["w_W_weight"].T, trace["w_W_bias"]
    cell.load_state_dict({"weight_ih": W[:, :4], "weight_hh": W[:, 4:], "bias_ih": b, "bias_hh": 0 * b})
    out = nd.unroll(cell, trace["in_x"], states={"h": trace["init_h"]}, compile=compile)
    assert_close(out.detach(), trace["st_h"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("compile", [False, True])
def test_lstm_cell_of_brainstate_after_reordering(compile):
    trace = load("rnn_LSTMCell")
    cell = nd.LSTMCell(4, 5)

    def reordered(rows):
        i, g, f, o = rows.chunk(4)
        return torch.cat([i, f, g, o])

    W, b = reordered(trace["w_W_weight"].T), reordered(trace["w_W_bias"])
    b[5:10] += 1  # the forget gate
    cell.load_state_dict({"weight_ih": W[:, :4], "weight_hh": W[:, 4:], "bias_ih": b, "bias_hh": 0 * b})
    start = {"h": trace["init_h"], "c": trace["init_c"]}
    out, final = nd.unroll(cell, trace["in_x"], states=start, return_states=True, compile=compile)
    assert_close(out.detach(), trace["st_h"], rtol=1e-9, atol=1e-9)
    assert_close(final["c"].detach(), trace["st_c"][-1], rtol=1e-9, atol=1e-9)


TORCH = [
    (nd.RNNCell, nn.RNNCell, {}, {}),
    (nd.RNNCell, nn.RNNCell, {"activation": torch.relu}, {"nonlinearity": "relu"}),
    (nd.RNNCell, nn.RNNCell, {"bias": False}, {"bias": False}),
    (nd.LSTMCell, nn.LSTMCell, {}, {}),
    (nd.LSTMCell, nn.LSTMCell, {"bias": False}, {"bias": False}),
]


@pytest.mark.parametrize(("ours", "theirs", "mine", "other"), TORCH)
def test_cells_of_torch(ours, theirs, mine, other):
    """The same weights from the same seed, and outputs and gradients of torch's cell from its state_dict."""
    cells = []
    for build in (lambda: ours(4, 5, **mine), lambda: theirs(4, 5, **other)):
        torch.manual_seed(7)
        cells.append(build())
    cell, reference = cells
    for name, value in reference.named_parameters():
        assert torch.equal(cell.get_parameter(name), value)
    reference = theirs(4, 5, **other)
    assert not torch.equal(cell.weight_hh, reference.weight_hh)
    cell.load_state_dict(reference.state_dict())
    xs, state, wanted = torch.randn(7, 3, 4), None, []
    for x in xs:
        state = reference(x, state)
        wanted.append(state[0] if theirs is nn.LSTMCell else state)
    ys = nd.unroll(cell, xs, compile=False)
    assert_close(ys, torch.stack(wanted), rtol=1e-13, atol=1e-14)
    ys.square().sum().backward()
    torch.stack(wanted).square().sum().backward()
    for name, value in reference.named_parameters():
        assert_close(cell.get_parameter(name).grad, value.grad, rtol=1e-11, atol=1e-13)


def test_what_torchs_cell_has_saved_is_checked():
    cell = nd.LSTMCell(4, 5)
    assert set(cell.state_dict()) - set(nn.LSTMCell(4, 5).state_dict()) == {"h_initializer", "c_initializer"}
    with pytest.raises(RuntimeError, match="size mismatch for weight_ih"):
        cell.load_state_dict(nn.LSTMCell(3, 5).state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*bias_ih"):
        cell.load_state_dict(nn.LSTMCell(4, 5, bias=False).state_dict())
    saved = cell.state_dict()
    del saved["c_initializer"]
    with pytest.raises(RuntimeError, match=r"Missing key.*c_initializer"):
        cell.load_state_dict(saved)


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


@pytest.mark.parametrize("cls", [nd.RNNCell, nd.LSTMCell, nd.GRUCell, nd.MGUCell, nd.URLSTMCell])
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


def test_a_cell_without_buffers_gets_feedback():
    layer = nd.Recurrent(nd.RNNCell(3, 3, learn="h_initializer"), nn.Linear(3, 3))
    assert nd.unroll(layer, torch.rand(4, 2, 3), compile=False).shape == (4, 2, 3)
