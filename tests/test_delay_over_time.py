"""A delay that stands in a row of layers takes all steps at once: the numbers are those of its steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from paths import assert_same, outcome
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import neurodyn as nd
from neurodyn import units as u

EACH = torch.tensor([1.0, 6.0, 40.0])


class ByStep(nn.Module):
    """A module of one's own, which runs step by step."""

    def __init__(self, delay: nd.Delay):
        super().__init__()
        self.delay = delay

    def forward(self, x: Tensor) -> Tensor:
        return self.delay(x)


def kinds() -> dict[str, Any]:
    learned = {"learn": "delay", "max_delay": 50 * u.ms}
    gaussian = learned | {"interpolation": "gaussian", "sigma": 2 * u.ms}
    return {
        "none": lambda: nd.Delay(3, 0 * u.ms),
        "short": lambda: nd.Delay(3, 5 * u.ms),
        "long": lambda: nd.Delay(3, 41 * u.ms, past_initializer=-2.0, learn="past_initializer"),
        "between": lambda: nd.Delay(3, 40.25 * u.ms, interpolation="linear"),
        "each": lambda: nd.Delay(3, EACH * u.ms),
        "each_and_zero": lambda: nd.Delay(3, (EACH - 1) * u.ms),
        "each_between": lambda: nd.Delay(3, (EACH + 0.5) * u.ms, interpolation="linear"),
        "learned": lambda: nd.Delay(3, 7.3 * u.ms, interpolation="linear", **learned),
        "learned_each": lambda: nd.Delay(3, (EACH + 0.3) * u.ms, interpolation="linear", **learned),
        "gaussian": lambda: nd.Delay(3, 7 * u.ms, **gaussian),
        "gaussian_each": lambda: nd.Delay(3, (EACH + 1) * u.ms, **gaussian),
        "gaussian_far": lambda: nd.Delay(3, (EACH + 1) * u.ms, **(gaussian | {"max_delay": 90 * u.ms})),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(("T", "batch"), [(60, (2,)), (9, ())])
def test_as_step_by_step(kind: str, T: int, batch: tuple[int, ...]) -> None:
    """Outputs, states and gradients, from the start and from states."""
    delay, x = kinds()[kind](), torch.randn(T, *batch, 3)
    step = ByStep(delay)
    for start in (None, {name: torch.randn(value.shape) for name, value in states_of(delay, batch).items()}):
        inside = None if start is None else {f"delay.{name}": value for name, value in start.items()}
        wanted = outcome(step, x, states=inside, compile=False)
        assert_same(outcome(delay, x, states=start), wanted, 1e-12)
        assert_same(outcome(delay, x, states=start, compile=False), wanted, 1e-12)


def states_of(delay: nd.Delay, batch: tuple[int, ...]) -> dict[str, Tensor]:
    nd.reset_states(delay, *batch)
    return nd.get_states(delay)


def test_what_follows_in_the_loop_is_as_before() -> None:
    """A sequence in parts, with steps of one's own between them, and blocks that are computed again."""
    delay, x = nd.Delay(3, EACH * u.ms), torch.randn(90, 2, 3, requires_grad=True)
    wanted = nd.unroll(ByStep(delay), x, compile=False)
    parts = [nd.unroll(delay, x[:50])]
    parts.append(torch.stack([delay(row) for row in x[50:60]]))
    parts.append(nd.unroll(delay, x[60:], states=nd.get_states(delay)))
    assert torch.equal(torch.cat(parts), wanted)
    net = nn.Sequential(nn.Linear(3, 3), delay, nd.LIF(3))
    assert_same(outcome(net, x.detach(), compile=False, checkpoint=7), outcome(net, x.detach(), compile=False), 1e-12)


def test_dtypes() -> None:
    delay, x = nd.Delay(3, EACH * u.ms), torch.rand(50, 2, 3) < 0.3
    assert torch.equal(nd.unroll(delay, x), nd.unroll(ByStep(delay), x, compile=False))
    ys = nd.unroll(delay, x.half())
    assert ys.dtype == torch.float16
    assert torch.equal(ys.double(), nd.unroll(delay, x))
    for wrong in (torch.rand(50, 2, 4), torch.rand(50, 2, 3, dtype=torch.float32)):
        said = []
        for net in (delay, ByStep(delay)):
            with pytest.raises((ValueError, TypeError)) as found:
                nd.unroll(net, wrong, compile=False)
            said.append(str(found.value))
        assert said[0] == said[1]


def test_another_step_is_taken() -> None:
    class Half(nd.Delay):
        def step(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            y, *new = super().step(x, *past)
            return y / 2, *new

    x = torch.randn(12, 3)
    assert torch.equal(nd.unroll(Half(3, 2 * u.ms), x, compile=False)[2:], x[:-2] / 2)
    hooked, calls = nd.Delay(3, 2 * u.ms), []
    hooked.register_forward_hook(lambda *_: calls.append(1))
    nd.unroll(hooked, x, compile=False)
    assert len(calls) == 12


def test_derivatives_of_second_order_and_of_transforms() -> None:
    delay, x = kinds()["learned_each"](), torch.randn(45, 3, requires_grad=True)
    step = ByStep(delay)

    def penalty(net: nn.Module) -> Tensor:
        (g,) = torch.autograd.grad(nd.unroll(net, x, compile=False).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), delay.raw_delay)[0]

    assert_same([penalty(delay)], [penalty(step)], 1e-12)
    many = torch.randn(4, 45, 3)
    found = torch.func.vmap(lambda x: nd.unroll(delay, x, compile=False))(many)
    assert_same([found], [nd.unroll(delay, many.transpose(0, 1), compile=False).transpose(0, 1)], 1e-12)


def test_a_step_does_not_read_the_whole_memory() -> None:
    """What a step of long delays that differ reads and makes: no tensor as large as the memory."""
    delay = nd.Delay(50, torch.randint(1, 2000, (50,)) * 1.0 * u.ms)
    nd.reset_states(delay)
    seen: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            seen.append(found.numel() if isinstance(found, Tensor) else 0)
            return found

    with Sizes():
        delay(torch.rand(50))
    assert max(seen) <= 50 * -(-delay.length // 16)
