"""`add_scaled` against plain torch, its derivatives, and what it refuses."""

import math

import pytest
import torch

from neurodyn.ops import add_pairs as module
from neurodyn.ops.add_scaled import add_scaled, plain

OPS = torch.ops.neurodyn


def arguments(other=True, gain=0.7, factor=0.5, bound=1.5, n=40):
    random = torch.Generator().manual_seed(1)
    weight = torch.rand(n, generator=random)
    limit = None if bound is None else torch.tensor(bound)
    added = torch.randn(n, generator=random) if other else None
    return weight, added, torch.tensor(gain), torch.tensor(factor), limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("other", [True, False])
@pytest.mark.parametrize("bound", [None, 0.8, -0.8])
def test_equals_plain_torch_to_the_last_bit(bound, other, dtype):
    assert module.prepare()
    for gain, factor in ((0.7, 0.5), (0.7, 1.0), (0.0, 0.5)):
        given = [x if x is None else x.to(dtype) for x in arguments(other, gain, factor, bound)]
        found = add_scaled(*given)
        assert torch.equal(found, plain(*given))
        OPS.event_add_scaled_(*given)
        assert torch.equal(given[0], found)


def test_no_work_for_nothing():
    """Values beyond the bound, and others that are not finite, stay."""
    weight, other, gain, factor, bound = arguments(gain=0.0, factor=1.0, bound=0.1)
    weight[3], other[4] = math.nan, math.inf
    found = add_scaled(weight, other, gain, factor, bound)
    assert found is not weight
    assert torch.equal(found.nan_to_num(-1), weight.nan_to_num(-1))


def test_derivatives_and_vmap():
    given = [x.requires_grad_() for x in arguments(bound=None)[:4]]
    assert torch.autograd.gradcheck(lambda *a: add_scaled(*a, None), given, fast_mode=True)
    given = [x.requires_grad_() for x in arguments(bound=0.4)[:4]]  # which cuts many off
    pulled = [torch.autograd.grad(f(*given, torch.tensor(0.4)).square().sum(), given) for f in (add_scaled, plain)]
    for own, wanted in zip(*pulled, strict=True):
        torch.testing.assert_close(own, wanted)
    weight, other, gain, factor, _ = arguments()
    gains = torch.stack((gain, gain * 0, gain * 2))
    together = torch.func.vmap(lambda g: add_scaled(weight, other, g, factor, None))(gains)
    for k in range(3):
        assert torch.equal(together[k], add_scaled(weight, other, gains[k], factor, None))


def test_what_is_refused():
    assert module.prepare()
    weight, other, gain, factor, bound = arguments()
    with pytest.raises(ValueError, match=r"other has shape \[39\], wanted \[40\]"):
        OPS.event_add_scaled(weight, other[1:], gain, factor, bound)
    with pytest.raises(ValueError, match=r"gain has shape \[2\], wanted one for all"):
        OPS.event_add_scaled(weight, other, torch.ones(2), factor, bound)
    with pytest.raises(ValueError, match=r"bound has shape \[2\], wanted one for all"):
        OPS.event_add_scaled(weight, other, gain, factor, torch.ones(2))
    with pytest.raises(TypeError, match="factor"):
        OPS.event_add_scaled(weight, other, gain, factor.float(), bound)
    with pytest.raises(ValueError, match="not contiguous"):
        OPS.event_add_scaled_(torch.ones(4, 2)[:, 0], None, gain, factor, None)
