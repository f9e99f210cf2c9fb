"""Random connections: fixed totals, several synapses of a pair, distances, and drawing in blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.connections import csr


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pattern(connection: nd.Sparse) -> Tensor:
    """How many synapses each pair has."""
    counts = torch.zeros(math.prod(connection.in_size), math.prod(connection.out_size))
    return counts.index_put((connection.pre_index, connection.post_index.long()), torch.ones(()), accumulate=True)


@pytest.mark.parametrize("multapses", [True, False])
@pytest.mark.parametrize("include_self", [True, False])
def test_a_fixed_total_is_spread_evenly_over_the_pairs(multapses: bool, include_self: bool) -> None:
    n, total, trials = 4, 6, 3000
    options = {"multapses": multapses, "include_self": include_self, "weight": 1.0}
    found = torch.stack([pattern(nd.FixedTotal(n, n, total, generator=generator(s), **options)) for s in range(trials)])
    assert (found.sum((1, 2)) == total).all()
    pairs = n * n if include_self else n * (n - 1)
    allowed = torch.ones(n, n) if include_self else 1 - torch.eye(n)
    p = total / pairs
    variance = total / pairs * (1 - 1 / pairs) if multapses else p * (1 - p)
    assert ((found.mean(0) - p * allowed).abs() <= 5 * allowed * (variance / trials) ** 0.5).all()
    assert (found.max() > 1) == multapses
    several = found.flatten(1).var(0)[allowed.flatten() > 0].mean()
    assert several == pytest.approx(variance, rel=0.05)


def test_different_pairs_that_are_few_of_all() -> None:
    """Numbers in rows are hypergeometric; each pair is as likely as the others, and two pairs are independent."""
    n, m, total, trials, random = 20, 60, 150, 600, generator()
    drawn = [csr.fixed_total(n, m, total, True, random, False) for _ in range(trials)]
    assert all(len(one.indices) == total for one in drawn)
    found = torch.zeros(trials, n, m)
    for one, hits in zip(drawn, found, strict=True):
        hits[torch.repeat_interleave(one.indptr.diff()), one.indices.long()] += 1
    assert found.max() == 1
    rows, p = found.sum(2), total / (n * m)
    variance = total / n * (1 - 1 / n) * (n * m - total) / (n * m - 1)
    assert rows.var() == pytest.approx(variance, rel=0.05)  # 4 standard errors
    error = (found.mean(0) - p) / (p * (1 - p) / trials) ** 0.5
    assert error.abs().max() < 5
    assert error.square().mean() == pytest.approx(1, abs=0.16)  # 4 standard errors


@pytest.mark.parametrize("per", ["pre", "post"])
def test_several_synapses_of_a_pair(per: str) -> None:
    rows = pattern(nd.FixedNum(6, 6, 9, per=per, multapses=True, include_self=False, weight=1.0, generator=generator()))
    assert (rows.sum(1 if per == "pre" else 0) == 9).all()
    assert rows.trace() == 0
    assert rows.max() > 1


def test_drawing_in_blocks_keeps_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csr, "BLOCK", 64)
    for include_self in (True, False):
        options = {"include_self": include_self, "generator": generator(), "weight": 1.0}
        for per in ("pre", "post"):
            found = nd.FixedNum(50, 50, 13, per=per, **options)
            assert (pattern(found).sum(1 if per == "pre" else 0) == 13).all()
            assert pattern(found).max() == 1
            assert (pattern(found).diagonal() == 0).all() != include_self
        total = pattern(nd.FixedTotal(50, 50, 1000, **options))
        assert total.sum() == 1000
        assert (total.diagonal() == 0).all() != include_self
        assert (total.sum(1) > 0).all()
        prob = pattern(nd.FixedProb(50, 50, 0.4, **options))
        assert abs(prob.sum() - 1000) < 5 * 600**0.5
        assert prob.max() == 1
    assert (pattern(nd.FixedProb(20, 30, 1.0, weight=1.0)) == 1).all()


def test_the_outputs_of_an_input_are_those_that_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = torch.randint(7, (20, 5), dtype=torch.int32)
    whole = csr.transposed(chosen, 7)
    monkeypatch.setattr(csr, "BLOCK", 15)
    parts = csr.transposed(chosen, 7)
    assert torch.equal(whole.indices, parts.indices)
    assert torch.equal(whole.indptr, parts.indptr)
    pairs = torch.stack((torch.repeat_interleave(whole.indptr.diff()), whole.indices.long()))
    expected = torch.stack((chosen.flatten().long(), torch.arange(20).repeat_interleave(5)))
    assert pairs.t().tolist() == sorted(expected.t().tolist())


def test_distances_on_a_grid_and_on_a_torus() -> None:
    flat = nd.DistanceProb((4, 5), (2, 5), torch.ones_like, weight=1.0, extent=(2.0, 1.0))
    row, column = torch.meshgrid(torch.arange(4) * 0.5 + 0.25, torch.arange(5) * 0.2 + 0.1, indexing="ij")
    pre = torch.stack((row.flatten(), column.flatten()), 1)
    post = pre.view(2, 2, 5, 2).mean(1).view(10, 2)
    assert_close(flat.distance.view(20, 10), torch.cdist(pre, post), rtol=1e-12, atol=1e-12)
    torus = nd.DistanceProb((4, 5), (2, 5), torch.ones_like, weight=1.0, extent=(2.0, 1.0), periodic=True)
    shifts = torch.cartesian_prod(torch.tensor([-2.0, 0.0, 2.0]), torch.tensor([-1.0, 0.0, 1.0]))
    nearest = torch.stack([torch.cdist(pre + shift, post) for shift in shifts]).amin(0)
    assert_close(torus.distance.view(20, 10), nearest, rtol=1e-12, atol=1e-12)


def test_the_probability_is_that_of_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csr, "BLOCK", 1000)

    def prob(d: Tensor) -> Tensor:
        return 0.8 * torch.exp(-((d / 0.2) ** 2))

    every = nd.DistanceProb((15, 15), (15, 15), torch.ones_like, weight=1.0, periodic=True, include_self=False)
    some = nd.DistanceProb(
        (15, 15), (15, 15), prob, weight=1.0, periodic=True, include_self=False, generator=generator()
    )
    assert pattern(some).trace() == 0
    assert pattern(some).max() == 1
    for low, high in ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5)):
        there, all_of_them = ((c.distance > low) & (c.distance <= high) for c in (some, every))
        chances = prob(every.distance[all_of_them])
        deviation = (chances * (1 - chances)).sum().sqrt()
        assert (there.sum() - chances.sum()).abs() < 4 * deviation


def test_weights_and_delays_of_the_distance() -> None:
    line = nd.DistanceProb(
        3, 3, torch.ones_like, weight=nd.OfDistance(lambda d: (2 - d) * u.nS), extent=3.0,
        delay=nd.OfDistance(lambda d: (1 + d) * u.ms), dt=1 * u.ms,
    )  # fmt: skip
    assert line.weight.tolist() == [2, 1, 0, 1, 2, 1, 0, 1, 2]
    line.arrivals.reset_state()
    sent = torch.stack([line(torch.tensor([float(i == 0), 0, 0])) for i in range(5)])
    assert sent.tolist() == [[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_positions_of_ones_own() -> None:
    places = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0], [9.0]])
    found = nd.DistanceProb(2, 3, lambda d: (d < 2).double(), weight=1.0, positions=places)
    assert pattern(found).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert found.distance.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nd.FixedTotal(3, 4, 13, weight=1.0, multapses=False), "total must .* 0 to 12, got 13; multapses=True"),
        (lambda: nd.FixedTotal(3, 4, -1, weight=1.0), "total must be a whole number from 0 to 2147483647, got -1"),
        (lambda: nd.FixedTotal(3, 4, 2.5, weight=1.0), "total must be a whole number"),
        (lambda: nd.FixedTotal(1, 1, 1, weight=1.0, include_self=False), "total must be a whole number from 0 to 0"),
        (lambda: nd.FixedTotal(3, 4, 1, weight=1.0, include_self=False), "include_self=False is for"),
        (lambda: nd.DistanceProb(3, (4, 2), torch.ones_like, weight=1.0), "the grids have different dimensions"),
        (lambda: nd.DistanceProb(3, 4, lambda d: d + 1, weight=1.0), "prob must give numbers from 0 to 1"),
        (lambda: nd.DistanceProb(3, 4, lambda d: 0.5, weight=1.0), "prob must give a probability for each distance"),
        (lambda: nd.DistanceProb(3, 4, torch.ones_like, weight=1.0, extent=0.0), "extent must be positive"),
        (
            lambda: nd.DistanceProb(3, 4, torch.ones_like, weight=1.0, positions=(torch.ones(3, 2), torch.ones(3, 2))),
            r"positions have shape \(3, 2\), wanted \(4, 2\)",
        ),
    ],
)
def test_mistakes(build, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()
