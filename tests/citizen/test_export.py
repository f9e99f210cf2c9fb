"""torch.export, AOTInductor and ONNX."""

import pytest
import torch
from composed import INPUTS, composed, inputs
from torch import nn
from torch.export import Dim, export

import neurodyn as nd
from neurodyn import units as u

ANY = {"xs": {0: Dim("T", min=2), 1: Dim("batch", min=2)}}
quiet = pytest.mark.filterwarnings("ignore")  # of torch's own exporters


def exported(net, xs, shapes=ANY):
    with torch.no_grad():
        return export(nd.Unroll(net), (xs,), dynamic_shapes=shapes)


@quiet
def test_every_model_with_any_length_and_batch(model):
    layer = model()
    program = exported(layer, model.input(4, 3, 5)).module()
    for T, batch in ((model.steps, 2), (3, 6)):
        xs = model.input(T, batch, 5, seed=1)
        assert torch.equal(program(xs), nd.unroll(layer, xs, compile=False))


@quiet
def test_a_network_with_any_length_and_batch():
    net = composed()
    program = exported(net, inputs(4, 3)).module()
    for T, batch in ((20, 2), (3, 6)):
        xs = inputs(T, batch)
        assert torch.equal(program(xs), nd.unroll(net, xs, compile=False))


def assert_same_gradients(program, found, net, wanted):
    """The two have the same parameters, so each gradient is taken by itself."""
    names = dict(net.named_parameters())
    assert {name.removeprefix("module.") for name, _ in program.named_parameters()} == names.keys()
    mine, theirs = [
        torch.autograd.grad(ys.square().sum(), [module.get_parameter(start + name) for name in names])
        for module, ys, start in ((program, found, "module."), (net, wanted, ""))
    ]
    for a, b in zip(mine, theirs, strict=True):
        assert b.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


class AfterTwoSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.clock = nd.Clock()

    def forward(self, x):
        return x * (self.clock() >= 2)


def late():
    """States of whole numbers, and delays that differ between neurons and between synapses."""
    random = torch.Generator().manual_seed(0)
    delays = nd.FixedProb(
        *(6, 6, 0.5),
        weight=nd.init.Uniform(0.5, 2.0),
        delay=nd.init.Uniform(1 * u.ms, 4 * u.ms),
        interpolation="linear",
        learn=("weight", "delay"),
        generator=random,
    )
    net = nn.Sequential(
        nd.Delay(5, torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]) * u.ms),
        nd.Delay(5, torch.tensor([0.0, 1.0, 2.0, 3.0, 44.0]) * u.ms),
        nn.Linear(5, 6),
        AfterTwoSteps(),
        nd.LIF(6),
        delays,
        nd.LIF(6, learn="tau"),
    )
    nn.init.uniform_(net[2].weight, 0.0, 2.0)
    return net


@quiet
def test_integer_states_and_differing_delays_for_any_batch_with_gradients():
    net = late()
    nd.unroll(net, torch.rand(2, 1, 5), compile=False)
    program = export(nd.Unroll(net), (torch.rand(4, 3, 5),), dynamic_shapes=ANY).module()
    for T, batch in ((30, 2), (9, 4)):
        xs = torch.rand(T, batch, 5)
        found, wanted = program(xs), nd.unroll(net, xs, compile=False)
        assert wanted.sum() > 0
        assert torch.equal(found, wanted)
        assert_same_gradients(program, found, net, wanted)


@quiet
def test_a_strict_export_writes_the_steps_out():
    net, xs = nn.Sequential(nd.Delay(5, 1 * u.ms), nn.Linear(5, 6), nd.LIF(6)), 9 * torch.rand(3, 3, 5)
    nd.unroll(net, xs[:, :2], compile=False)
    held = nd.get_states(net)
    program = export(nd.Unroll(net), (xs,), dynamic_shapes={"xs": {1: Dim("batch", min=1)}}, strict=True).module()
    assert all(nd.get_states(net)[name] is value for name, value in held.items())
    for batch in (3, 1):
        found = program(xs[:, :batch])
        assert found.sum() > 0
        assert torch.equal(found, nd.unroll(net, xs[:, :batch], compile=False))


@quiet
@pytest.mark.parametrize(
    ("net", "options"), [(nd.LIF(5), {"return_states": True}), (nn.Sequential(nd.CUBA(), nd.LIF(5)), {})]
)
def test_what_a_strict_export_does_not_take(net, options):
    with pytest.raises(Exception, match="leave out strict=True"):
        export(nd.Unroll(net, **options), (torch.rand(2, 3, 5),), strict=True)


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nd.LIF(()), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2 * 2 * 2, 3))


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.neurons, self.head = nn.Conv2d(1, 2, 3), nd.LIF(()), nn.Linear(2 * 4 * 4, 3)

    def forward(self, x):
        return self.head(self.neurons(self.conv(x)).flatten(1))


@quiet
@pytest.mark.parametrize("make", [convolutional, Mine])
def test_convolutions_with_any_length_and_batch(make):
    """Neurons that take any shape have features of their own behind the batch."""
    net, xs = make(), torch.rand(4, 3, 1, 6, 6)
    if make is Mine:
        with pytest.raises(nd.UnsetState, match="an export cannot find its batch; before it call the module once"):
            exported(net, xs)
    nd.unroll(net, xs, compile=False)
    program = exported(net, xs).module()
    for T, batch in ((5, 2), (3, 1)):
        xs = torch.rand(T, batch, 1, 6, 6)
        torch.testing.assert_close(program(xs), nd.unroll(net, xs, compile=False), rtol=1e-12, atol=1e-14)


@quiet
def test_an_exported_network_can_be_trained():
    net, xs = composed(), inputs(12, 3)
    program = export(nd.Unroll(net), (xs,)).module()
    assert_same_gradients(program, program(xs), net, nd.unroll(net, xs, compile=False))


def assert_steps(step, net, xs):
    nd.reset_states(net, *xs.shape[1:-1])
    with torch.no_grad():
        for x in xs:
            assert torch.equal(step(x), net(x))


@quiet
def test_an_exported_step_keeps_its_state(model):
    layer = model()
    nd.reset_states(layer, 3)
    with torch.no_grad():
        step = export(layer, (model.input(3, 5),)).module()
    assert_steps(step, layer, model.input(model.steps, 3, 5))


@quiet
def test_an_exported_step_of_a_network_keeps_its_state():
    net = composed()
    with pytest.raises(nd.UnsetState, match=r"LIF\(6\) has no state to export; call nd.reset_states\(net, \*batch\)"):
        export(net, (inputs(3),))
    nd.reset_states(net, 3)
    with torch.no_grad():
        step = export(net, (inputs(3),)).module()
    assert_steps(step, net, inputs(20, 3))


@quiet
@pytest.mark.long
def test_ahead_of_time_compiled_step_keeps_its_state(tmp_path):
    net = nn.Sequential(nn.Linear(INPUTS, 4), nd.Delay(4, 2 * u.ms), nd.LIF(4))
    nn.init.uniform_(net[0].weight, 0.0, 1.0)
    nd.reset_states(net, 3)
    with torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            export(net, (inputs(3),)), package_path=str(tmp_path / "step.pt2")
        )
    step, xs = torch._inductor.aoti_load_package(path), inputs(12, 3)
    found = torch.stack([step(x) for x in xs])
    assert found.sum() > 0
    torch.testing.assert_close(found, nd.unroll(net, xs, compile=False), rtol=1e-12, atol=1e-14)


@quiet
@pytest.mark.long
@pytest.mark.skipif(torch.__version__ < "2.13", reason="Inductor fails on such a scan before torch 2.13")
def test_ahead_of_time_compiled_sequence_of_any_length_and_batch(tmp_path):
    net = nn.Sequential(nn.Linear(INPUTS, 4), nd.Expon(4), nd.LIF(4))
    nn.init.uniform_(net[0].weight, 0.0, 1.0)
    with torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            exported(net, inputs(8, 4), ANY), package_path=str(tmp_path / "sequence.pt2")
        )
    run = torch._inductor.aoti_load_package(path)
    for T, batch in ((8, 4), (21, 3)):
        found, wanted = run(inputs(T, batch)), nd.unroll(net, inputs(T, batch), compile=False)
        assert found.sum() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@quiet
def test_onnx_runs_any_length_and_batch():
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net = composed()
    with torch.no_grad():
        model = torch.onnx.export(
            nd.Unroll(net), (inputs(4, 3),), dynamo=True, dynamic_shapes=ANY, verbose=False
        ).model_proto
    assert "Scan" in {node.op_type for node in model.graph.node}
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for T, batch in ((4, 3), (20, 2)):
        xs = inputs(T, batch)
        (found,) = session.run(None, {session.get_inputs()[0].name: xs.numpy()})
        wanted = nd.unroll(net, xs, compile=False).detach()
        torch.testing.assert_close(torch.as_tensor(found), wanted, rtol=1e-12, atol=1e-14)
