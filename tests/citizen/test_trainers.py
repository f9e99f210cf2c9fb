"""Averages of weights by torch, Lightning and timm on networks with states, before and after batches of any size."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from composed import composed, inputs
from torch import nn
from torch.optim import swa_utils
from torch.utils.data import DataLoader

import neurodyn as nd


class Network(nn.Module):
    """Whole sequences in, time last averaged away; batch norm has buffers that the averages do keep."""

    def __init__(self):
        super().__init__()
        self.layers, self.norm = composed(), nn.BatchNorm1d(3)

    def forward(self, xs):
        return self.norm(nd.unroll(self.layers, xs, compile=False).mean(0))


def batches(model, average, update, sizes=(4, 2, 5)):
    """Train with batches of several sizes; average after each, and run the average on another size."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for i, size in enumerate(sizes):
        optimizer.zero_grad()
        model(inputs(6, size, seed=i)).square().sum().backward()
        optimizer.step()
        update(model)
        seen.append([p.detach().clone() for p in model.parameters()])
        average(inputs(6, size + 1))
    return seen


def ema(seen, decay, first):
    """The exponential average of parameters that starts from `first`."""
    values = first
    for now in seen:
        values = [decay * a + (1 - decay) * b for a, b in zip(values, now, strict=True)]
    return values


def same(module, values):
    for a, b in zip(module.parameters(), values, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("run_before", [False, True])
@pytest.mark.parametrize("use_buffers", [False, True])
def test_torch(use_buffers, run_before):
    model = Network()
    if run_before:
        model(inputs(6, 7))
    average = swa_utils.AveragedModel(
        model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=use_buffers
    ).eval()
    seen = batches(model, average, average.update_parameters)
    same(average.module, ema(seen[1:], 0.5, seen[0]))  # the first is copied
    if not use_buffers:
        assert torch.equal(average.module.norm.running_mean, model.norm.running_mean)
    assert torch.equal(average.module.layers[1].V_th, model.layers[1].V_th)
    # the average has kept the states of its own batch
    assert {value.shape[0] for value in nd.get_states(average).values()} == {6}
    other = swa_utils.AveragedModel(Network())
    other.load_state_dict(average.state_dict())
    same(other.module, [p.detach() for p in average.module.parameters()])


def test_update_bn():
    model = Network()
    swa_utils.update_bn([inputs(6, 4), inputs(6, 3)], model)
    assert model.norm.num_batches_tracked == 2


@pytest.mark.parametrize("name", ["ModelEmaV2", "ModelEmaV3"])
def test_timm(name):
    if (found := importlib.util.find_spec("timm")) is None:
        pytest.skip("timm is not installed")
    path = Path(found.origin).parent / "utils" / "model_ema.py"  # by itself: the rest of timm needs torchvision
    spec = importlib.util.spec_from_file_location("model_ema", path)
    spec.loader.exec_module(utils := importlib.util.module_from_spec(spec))
    model = Network()
    model(inputs(6, 3))
    first = [p.detach().clone() for p in model.parameters()]
    average = getattr(utils, name)(model, decay=0.5)
    seen = batches(model, average.module, average.update)
    same(average.module, ema(seen, 0.5, first))


@pytest.mark.filterwarnings("ignore")  # Lightning's own
@pytest.mark.parametrize("run_before", [False, True])
def test_lightning(run_before, tmp_path):
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging

    class Task(LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen, self.validated = Network(), [], []

        def training_step(self, batch, index):
            return self.net(batch).square().sum()

        def on_train_batch_end(self, *_):
            self.seen.append([p.detach().clone() for p in self.net.parameters()])

        def validation_step(self, batch, index):
            self.validated = [p.detach().clone() for p in self.net.parameters()]
            self.net(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"default_root_dir": tmp_path, "max_epochs": 2, "num_sanity_val_steps": 1}
    train = DataLoader([inputs(6, size, seed=size) for size in (4, 2, 5)], batch_size=None)
    validation = DataLoader([inputs(6, 3)], batch_size=None)
    for callback in (EMAWeightAveraging(decay=0.5), WeightAveraging(use_buffers=False)):
        task = Task()
        if run_before:
            task.net(inputs(6, 7))
        Trainer(callbacks=[callback], enable_checkpointing=True, **quiet).fit(task, train, validation)
        if isinstance(callback, EMAWeightAveraging):
            wanted = ema(task.seen[1:], 0.5, task.seen[0])
        else:
            wanted = [torch.stack(values).mean(0) for values in zip(*task.seen, strict=True)]
        for values in (task.validated, [p.detach() for p in task.net.parameters()]):
            same(task.net, values)
            for a, b in zip(values, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


def test_what_walks_over_buffers_sees_no_state_and_what_moves_them_does():
    net = composed()
    before = [name for name, _ in net.named_buffers()]
    net(inputs(4))
    assert [name for name, _ in net.named_buffers()] == before
    assert len(list(net.buffers())) == len(before)
    states = nd.get_states(net)
    assert states
    assert not set(states) & set(before)
    assert all(net.get_buffer(name) is value for name, value in states.items())
    net.float()
    assert {value.dtype for value in nd.get_states(net).values()} == {torch.float32}
    net.to("meta")
    assert all(value.is_meta for value in nd.get_states(net).values())


def test_copies_of_the_buffers_hide_states_as_well():
    layer = nd.LIF(3)
    layer(0.5 * torch.ones(2, 3))
    for twin in (copy.deepcopy(layer), copy.copy(layer)):
        assert torch.equal(twin.V, layer.V)
        assert [name for name, _ in twin.named_buffers()] == [name for name, _ in layer.named_buffers()]
        twin(0.2 * torch.ones(2, 3))
        assert not torch.equal(twin.V, layer.V)
    for buffers in (copy.copy(layer._buffers), copy.deepcopy(layer._buffers), layer._buffers.copy()):
        assert "V" not in dict(buffers.items())
        assert torch.equal(buffers["V"], layer.V)
    delay = nd.Delay(3, torch.tensor([2.0, 3.0, 4.0]) * nd.units.ms)
    delay(torch.ones(2, 3))
    assert "past1" not in dict(delay.named_buffers())
