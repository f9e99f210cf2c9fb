"""torch.compile of a user's model with ours inside."""

import pytest
import torch
from composed import composed, inputs
from torch import nn
from torch._dynamo.testing import CompileCounter

import neurodyn as nd


def compiled(module):
    torch._dynamo.reset()
    counter = CompileCounter()
    return torch.compile(module, fullgraph=True, backend=counter), counter


def test_every_model_steps_in_one_graph_and_keeps_its_state(model):
    layer, reference = model(), model()
    step, counter = compiled(layer)
    xs = model.input(4, 3, 5)
    with torch.no_grad():
        for batch in (3, 3, 2):
            nd.reset_states(layer, batch)
            nd.reset_states(reference, batch)
            for x in xs[:, :batch]:
                assert torch.equal(step(x), reference(x))
    assert counter.frame_count <= 2  # one for each batch size


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at it
def test_a_network_in_training_steps_in_a_few_graphs():
    net, xs = composed(), inputs(6, 4)
    nd.reset_states(net, 4)
    torch.stack([net(x) for x in xs]).square().sum().backward()
    wanted = [p.grad.clone() for p in net.parameters()]
    step, counter = compiled(net)
    for _ in range(3):
        net.zero_grad()
        nd.reset_states(net, 4)
        torch.stack([step(x) for x in xs]).square().sum().backward()
        for p, grad in zip(net.parameters(), wanted, strict=True):
            torch.testing.assert_close(p.grad, grad, rtol=1e-12, atol=1e-14)
        count = counter.frame_count
    assert count <= 4  # as the gradient reaches the states one after the other
    assert counter.frame_count == count


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at it
def test_a_user_s_model_that_unrolls_ours():
    class User(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.head = composed()[:2], nn.Linear(6, 2)

        def forward(self, xs):
            return self.head(nd.unroll(self.net, xs).mean(0))

    user, counter = User(), CompileCounter()
    run = torch.compile(user, backend=counter)
    for T, batch in ((3, 2), (4, 3), (5, 5), (7, 7), (40, 2)):
        xs = inputs(T, batch)
        torch.testing.assert_close(run(xs), user.head(nd.unroll(user.net, xs, compile=False).mean(0)))
    assert counter.frame_count <= 2  # what comes after the loop, for one batch and for any; the loop is no part of it
