import pytest
import torch

from neurodyn import bitwise

X, Y = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
TRUTH = {"or_": [0, 1, 1, 1], "and_": [0, 0, 0, 1], "iand": [0, 1, 0, 0], "xor": [0, 1, 1, 0], "ixor": [0, 1, 1, 0]}


@pytest.mark.parametrize("name", TRUTH)
def test_truth_table(name):
    assert getattr(bitwise, name)(X, Y).tolist() == TRUTH[name]


@pytest.mark.parametrize("name", TRUTH)
def test_expectation_for_independent_events_and_gradient(name):
    p = [t.requires_grad_() for t in torch.rand(2, 5).unbind(0)]
    wanted = sum(
        TRUTH[name][2 * i + j] * (p[0] if i else 1 - p[0]) * (p[1] if j else 1 - p[1]) for i in (0, 1) for j in (0, 1)
    )
    torch.testing.assert_close(getattr(bitwise, name)(*p), wanted)
    assert torch.autograd.gradcheck(getattr(bitwise, name), p)


def test_not():
    assert bitwise.not_(X).tolist() == [1, 1, 0, 0]
