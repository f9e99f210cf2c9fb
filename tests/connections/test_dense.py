import pint
import pytest
import torch
from reference.traces import load
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

TRACE = load("linear_layers")


def matches(found, key):
    assert_close(found.detach(), torch.from_numpy(TRACE.arrays[key]), rtol=1e-9, atol=1e-9)


@pytest.fixture
def x():
    return TRACE["in_x"]


W, b = TRACE["w_W"].T, TRACE["w_b"]


def test_trace_of_masked_linear(x):
    matches(nd.MaskedLinear(6, 4, TRACE["w_mask"].T, weight=W, bias=b)(x), "out_Linear_masked")
    matches(nd.MaskedLinear(6, 4, 1.0, weight=W, bias=b)(x), "out_Linear")
    matches(nd.MaskedLinear(6, 4, 1.0, weight=W)(torch.from_numpy(TRACE.arrays["in_spike"])), "out_Linear_bool")
    in_mS = nd.MaskedLinear(6, 4, 1.0, weight=u.quantity(W, "mS"))
    assert_close(in_mS(x).detach() * 1e-6, torch.from_numpy(TRACE.arrays["out_Linear_mS"]), rtol=1e-9, atol=1e-9)


def test_trace_of_signed_linear(x):
    matches(nd.SignedLinear(6, 4, weight=W)(x), "out_SignedW_none")
    matches(nd.SignedLinear(6, 4, TRACE["w_sign"].T, weight=W)(x), "out_SignedW_sign")
    matches(nd.SignedLinear(6, 4, TRACE["w_sign"].squeeze(), weight=W)(x), "out_SignedW_sign")


def test_trace_of_scaled_ws_linear(x):
    matches(nd.ScaledWSLinear(6, 4, weight=W, bias=b)(x), "out_ScaledWS_gain1")
    matches(nd.ScaledWSLinear(6, 4, weight=W, bias=b, gain=False)(x), "out_ScaledWS_gain1")
    matches(nd.ScaledWSLinear(6, 4, weight=W, bias=b, gain=TRACE["w_gain"].T)(x), "out_ScaledWS_gain")


def test_trace_of_all_to_all_and_one_to_one(x):
    square = TRACE["w_square"].T
    matches(nd.AllToAll(6, 6, weight=square)(x), "out_AllToAll")
    matches(nd.AllToAll(6, 6, weight=square, include_self=False)(x), "out_AllToAll_noself")
    matches(nd.AllToAll(6, 6, weight=2.5, include_self=False)(x), "out_AllToAll_scalar_noself")
    shared = nd.AllToAll(6, 4, weight=2.5)(x)  # every target, also for a batch
    assert shared.shape == (3, 4)
    matches(shared[:, :1], "out_AllToAll_scalar")
    matches(nd.OneToOne(6, weight=TRACE["w_vec"])(x), "out_OneToOne")


def test_trace_of_lora(x):
    factors = {"A": TRACE["w_lora_a"].T, "B": TRACE["w_lora_b"].T}
    base = nn.Linear(6, 4)
    base.load_state_dict({"weight": W, "bias": b})
    matches(nd.LoRA(6, 2, 4, base, **factors)(x), "out_LoRA")
    matches(nd.LoRA(6, 2, 4, **factors)(x) + base(x), "out_LoRA")


ALL = [
    lambda **v: nd.MaskedLinear(5, 5, torch.ones(5, 5).triu(), **v),
    lambda **v: nd.SignedLinear(5, 5, torch.tensor([1.0, -1, 1, 1, -1]), **v),
    lambda **v: nd.ScaledWSLinear(5, 5, **v),
    lambda **v: nd.AllToAll(5, 5, **v),
    lambda **v: nd.AllToAll(5, 5, include_self=False, **v),
    lambda **v: nd.AllToAll(5, 5, weight=0.3, **v),
    lambda **v: nd.AllToAll(5, 5, weight=0.3, include_self=False, **v),
    lambda **v: nd.OneToOne(5, **v),
    lambda **v: nd.OneToOne(5, weight=0.3, **v),
]


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("bias", [False, True, [1.0, 2, 3, 4, 5]])
def test_forward_is_the_matrix_and_gradients_are_right(build, bias):
    connection = build(bias=bias)
    x = torch.randn(2, 3, 5)
    shift = 0 if connection.bias is None else connection.bias
    assert_close(connection(x), x @ connection.matrix().T + shift)
    names = [name for name, _ in connection.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in connection.parameters()]

    def call(x, *tensors):
        return torch.func.functional_call(connection, dict(zip(names, tensors, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x.requires_grad_(), *values))


def test_weights_carry_units():
    weight = torch.rand(3, 2)
    for cls in (lambda **v: nd.MaskedLinear(2, 3, 1.0, **v), lambda **v: nd.SignedLinear(2, 3, **v)):
        connection = cls(weight=u.quantity(weight, "uS"), bias=2 * u.uS)
        assert_close(connection.weight.detach(), 1e3 * weight)  # nS
        assert_close(connection.bias.detach(), torch.full((3,), 2e3))
        assert "nS" in repr(connection)
        with pytest.raises(pint.DimensionalityError, match=r"Linear\(2, 3\): bias"):
            cls(weight=u.quantity(weight, "nS"), bias=2 * u.mV)
        with pytest.raises(TypeError, match=r"Linear\(2, 3\): bias needs a unit"):
            cls(weight=u.quantity(weight, "nS"), bias=2.0)
    drawn = nd.AllToAll(20, 30, weight=nd.init.Normal(0.5 * u.nS, 0.1 * u.nS))
    assert drawn.weight.shape == (30, 20)
    assert abs(drawn.weight.mean().item() - 0.5) < 0.02
    own = nn.Parameter(torch.rand(3, 2))
    assert nd.MaskedLinear(2, 3, 1.0, weight=u.quantity(own, "nS")).weight is own
    gain = nd.ScaledWSLinear(2, 3, gain=2 * u.pA, bias=1 * u.pA)
    assert gain.unit == u.pA
    with pytest.raises(TypeError, match="give gain the unit"):
        nd.ScaledWSLinear(2, 3, weight=1 * u.nS)
    with pytest.raises(pint.DimensionalityError, match=r"ScaledWSLinear\(2, 3\): bias"):
        nd.ScaledWSLinear(2, 3, gain=2 * u.pA, bias=1 * u.nS)


def test_wrong_shapes_are_refused():
    for weight in (torch.rand(2, 3), torch.rand(2), torch.rand(3, 1)):
        with pytest.raises(ValueError, match=r"MaskedLinear\(2, 3\): weight"):
            nd.MaskedLinear(2, 3, 1.0, weight=weight)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3\)"):
        nd.MaskedLinear(2, 3, torch.ones(2, 3))
    with pytest.raises(ValueError, match="as many sources as targets"):
        nd.AllToAll(2, 3, include_self=False)
    with pytest.raises(ValueError, match="must have shape"):
        nd.SignedLinear(2, 3, weight=nn.Parameter(torch.tensor(1.0)))


@pytest.mark.parametrize("wrong", [(2, 3), 2.0, "2", None, True, -1])
def test_sizes_are_whole_numbers(wrong):
    for make in (
        lambda: nd.AllToAll(wrong, 4, weight=2.0),
        lambda: nd.AllToAll(4, wrong),
        lambda: nd.OneToOne(wrong),
        lambda: nd.MaskedLinear(4, wrong, 1.0),
    ):
        with pytest.raises(TypeError, match=r"_features must be a whole number, the last dimension of its (in|out)put"):
            make()


def test_signs_survive_training():
    connection = nd.SignedLinear(3, 2, torch.tensor([1.0, 1.0, -1.0]))
    optimizer = torch.optim.SGD(connection.parameters(), lr=0.5)
    for _ in range(20):
        loss = (connection(torch.ones(4, 3)) + 5).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (connection.matrix()[:, :2] >= 0).all()
    assert (connection.matrix()[:, 2] <= 0).all()


def test_masked_weights_get_no_gradient():
    connection = nd.MaskedLinear(3, 3, torch.eye(3))
    connection(torch.ones(2, 3)).sum().backward()
    assert torch.equal(connection.weight.grad, 2 * torch.eye(3))


def test_standardised_rows():
    matrix = nd.ScaledWSLinear(50, 7).matrix()
    assert_close(matrix.sum(1), torch.zeros(7), rtol=0, atol=1e-14)
    assert_close(matrix.norm(dim=1), torch.ones(7))
    constant = nd.ScaledWSLinear(50, 7, weight=0.3)  # variance 0: eps keeps it finite
    assert not constant.matrix().any()
    masked = nd.ScaledWSLinear(50, 7, mask=torch.arange(50) < 10)
    assert not masked.matrix()[:, 10:].any()


def test_scalar_weight_stays_one_number():
    connection = nd.AllToAll(1000, 2000, weight=0.5 * u.nS)
    assert connection.weight.shape == ()
    assert nd.OneToOne(7, weight=0.5 * u.nS).weight.shape == ()
    assert nd.OneToOne(7).weight.shape == (7,)


def test_lora_starts_from_its_base():
    base = nd.AllToAll(6, 4, weight=1 * u.nS)
    base.requires_grad_(False)
    adapted, x = nd.LoRA(6, 2, 4, base, B=nd.init.Constant(0 * u.nS)), torch.randn(3, 6)
    assert torch.equal(adapted(x), base(x))
    adapted(x).sum().backward()
    assert adapted.B.grad.abs().sum() > 0
    assert base.weight.grad is None
    assert nd.LoRA(6, 2, 4)(x).abs().sum() > 0


def test_connections_in_a_projection_and_in_unroll():
    net = nn.Sequential(
        nd.Projection(nd.SignedLinear(4, 6, weight=u.quantity(torch.rand(6, 4), "nS")), synapse=nd.Expon(6)),
        nd.CUBA(),
        nd.LIF(6, R=1 * u.Gohm),
    )
    assert nd.unroll(net, torch.ones(8, 3, 4), compile=False).shape == (8, 3, 6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nd.AllToAll(6, 4, weight=nd.init.Normal(1 * u.nS, 0.1 * u.nS)),
        lambda: nd.OneToOne(6, weight=2.0),
        lambda: nd.MaskedLinear(6, 4, 1.0),
        lambda: nd.SignedLinear(6, 4),
        lambda: nd.ScaledWSLinear(6, 4),
        lambda: nd.LoRA(6, 2, 4, nn.Linear(6, 4)),
    ],
)
def test_the_meta_device(make):
    with torch.device("meta"):
        connection = make()
    tensors = [*connection.parameters(), *connection.buffers()]
    assert tensors
    assert all(value.is_meta for value in tensors)
    connection.to_empty(device="cpu")
    for module in connection.modules():
        module.reset_parameters()
    x = torch.randn(3, 6)
    assert connection(x).isfinite().all()
    other = make()
    other.load_state_dict(connection.state_dict())
    assert torch.equal(connection(x), other(x))
