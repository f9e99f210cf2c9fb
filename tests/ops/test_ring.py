"""What is on its way in a ring: the C++ operators do what plain torch does, and trust nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import program_cache
from neurodyn.ops import ring

OPS = torch.ops.neurodyn
ROWS, N_IN, N, D = 7, 5, 6, torch.float64


@pytest.fixture(autouse=True)
def _compiled() -> None:
    """Without the C++ operators the plain ones would be compared with themselves."""
    assert ring._is_available()


def arguments(batch: tuple[int, ...] = (), dtype: torch.dtype = torch.float64, one: bool = False) -> list[Tensor]:
    """A ring, its head, inputs, and a matrix with 20 synapses."""
    random = torch.Generator().manual_seed(3)
    count = torch.tensor([6, 0, 3, 7, 4])
    indptr = torch.cat((torch.zeros(1, dtype=torch.int32), count.cumsum(0).to(torch.int32)))
    indices = torch.randint(ROWS * N, (20,), generator=random, dtype=torch.int32)
    x = torch.rand(*batch, N_IN, generator=random) * (torch.rand(*batch, N_IN, generator=random) < 0.6)
    held = torch.rand(*batch, ROWS, N, generator=random)
    weight = torch.rand((), generator=random) if one else torch.rand(20, generator=random)
    return [held.to(dtype), torch.tensor(0), x.to(dtype), weight.to(dtype), indptr, indices]


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_the_ring_goes_around(batch, dtype, one) -> None:
    """Against a sum over the synapses of what was sent how many steps ago."""
    held, _, _, weight, indptr, indices = arguments(batch, dtype, one)
    xs = [torch.rand(*batch, N_IN, dtype=dtype) * (torch.rand(*batch, N_IN) < 0.5) for _ in range(20)]
    pre, weights = torch.repeat_interleave(indptr.diff()), weight.expand(20)
    first, changed = held.clone(), held.clone()
    for t in range(20):
        head = torch.tensor(t % ROWS)
        before = held.clone()
        plain = ring._plain(held, head, xs[t], weight, indptr, indices)
        new = ring.deliver(held, head, xs[t], weight, indptr, indices)
        assert torch.equal(held, before)
        OPS.event_deliver_(changed, head, xs[t], weight, indptr, indices)
        assert torch.equal(changed, new)
        torch.testing.assert_close(plain, new)
        held = new
        wanted = first[..., t, :].clone() if t < ROWS - 1 else torch.zeros(*batch, N, dtype=dtype)
        for i, k, w in zip(pre.tolist(), indices.tolist(), weights.tolist(), strict=True):
            if t >= k // N:
                wanted[..., k % N] += w * xs[t - k // N][..., i]
        torch.testing.assert_close(ring.arrived(held, head), wanted)


@pytest.mark.parametrize(
    ("place", "value", "error", "words"),
    [
        (1, torch.tensor(7), ValueError, "head = 7 is none of the 7 rows"),
        (1, torch.tensor(-1), ValueError, "head = -1 is none"),
        (1, torch.tensor(1.0), TypeError, r"wanted Long \(torch.int64\)"),
        (1, torch.tensor([1, 2]), ValueError, "wanted a number"),
        (2, torch.rand(4, dtype=D), ValueError, "the input has 4 elements and indptr 6"),
        (2, torch.ones(2, 5, dtype=D), ValueError, "wanted the same batch"),
        (2, torch.ones(5, dtype=torch.float32), TypeError, "the ring is Double and the input Float"),
        (3, torch.ones(19, dtype=D), ValueError, r"weight has shape \[19\] for 20 synapses"),
        (5, torch.full((20,), 42, dtype=torch.int32), ValueError, r"indices\[0\] = 42 is out of range"),
        (5, torch.full((20,), -1, dtype=torch.int32), ValueError, "out of range"),
        (4, torch.tensor([0, 9, 6, 9, 16, 20], dtype=torch.int32), ValueError, "are no part of the 20 synapses"),
        (0, torch.rand(7, dtype=D), ValueError, r"must lie in rows \(\*batch, rows, n\)"),
    ],
)
def test_what_does_not_fit_is_refused(place, value, error, words) -> None:
    given = arguments()
    given[2] = torch.ones(5)
    given[place] = value
    with pytest.raises(error, match=words):
        OPS.event_deliver(*given)
    if place < 2:
        with pytest.raises(error):
            OPS.event_arrived(*given[:2])


class Net(nn.Module):
    """Neurons that reach each other after 1 to 9 ms, and see what arrives before they step."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(1)
        pre, post = torch.arange(12).repeat_interleave(4), torch.randint(12, (48,), generator=random)
        delay = torch.randint(1, 10, (48,), generator=random) * u.ms
        weight = torch.rand(48, generator=random) * 0.3 * u.mV
        self.c = nd.Sparse((pre, post), (12, 12), weight=weight, delay=delay)
        self.N = nd.LIF(12, tau=20 * u.ms, R=1 * u.Gohm)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.N(x, delta=self.c.read())
        self.c(spikes)
        return spikes


@pytest.mark.kernels
def test_simulate_changes_the_ring_in_place_and_nothing_of_the_callers(monkeypatch, no_programs) -> None:
    monkeypatch.setattr("neurodyn.run.input_rows._LONGEST_BLOCK", 25)
    net, xs = Net(), 2 * torch.rand(100, 12)
    wanted = nd.simulate(net, 100 * u.ms, nd.series(xs), ["N.V"], compile=False)
    first = nd.simulate(net, 60 * u.ms, nd.series(xs[:60]), ["N.V"])
    held = {name: value.clone() for name, value in first.states.items()}
    seen: list[Tensor] = []
    options = {
        "states": first.states,
        "start": 60,
        "every": (10 * u.ms, lambda net, _: seen.append(net.c.arrivals.pending)),
    }
    rest = nd.simulate(net, 40 * u.ms, nd.series(xs[60:]), ["N.V"], **options)
    found = nd.Recording.join(first, rest)
    torch.testing.assert_close(found["N.V"].values, wanted["N.V"].values)
    assert all(torch.equal(value, held[name]) for name, value in first.states.items())
    assert not torch.equal(seen[0], seen[1])  # what a function has seen stays
    for name, value in wanted.states.items():
        if name != "c.arrivals.pending":
            torch.testing.assert_close(rest.states[name], value)
    programs = [found.program for each in program_cache._shared.values() for found in each]
    assert any(chunk.rings for program in programs for chunk in program._chunks.values())
    assert all("called by the loop in C++" in program.path() for program in programs)


def test_a_state_of_which_the_delays_get_longer_keeps_what_is_on_its_way() -> None:
    c = nd.Sparse(([0, 0], [0, 1]), (1, 2), weight=1.0, delay=torch.tensor([2.0, 3.0]) * u.ms)
    nd.reset_states(c)
    with torch.no_grad():
        for k in range(3):
            c(torch.tensor([float(k == 2)]))
        c.delays.delay = torch.tensor([2.0, 6.0]) * u.ms
        sent = torch.stack([c(torch.tensor([float(k == 0)])) for k in range(8)])
    assert sent[:, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert sent[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
