"""Changes of weights at the synapses of spikes: C++ against plain torch, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from neurodyn.ops import add_pairs as module
from neurodyn.ops.add_pairs import Matrix, add_pairs, plain

N, M, S = 20, 15, 200
OPS = torch.ops.neurodyn


def matrix(seed: int = 0) -> Matrix:
    """Pairs at random, some twice; the last inputs and the last output have none."""
    random = torch.Generator().manual_seed(seed)
    pre = torch.randint(N - 3, (S,), generator=random).sort().values
    post = torch.randint(M - 1, (S,), dtype=torch.int32, generator=random)
    starts = torch.cat((torch.zeros(1, dtype=torch.long), torch.bincount(pre, minlength=N).cumsum(0)))
    return Matrix.of(starts.int(), post, M)


def values(*batch: int, seed: int, spikes_of: str = "pre") -> tuple[Tensor, Tensor]:
    """Values of the outputs and of the inputs; those of one side are spikes."""
    random = torch.Generator().manual_seed(seed)
    y, x = (torch.randn(*batch, n, generator=random) for n in (M, N))
    spikes = [(torch.rand(v.shape, generator=random) < 0.15).double() for v in (y, x)]
    return (y, spikes[1]) if spikes_of == "pre" else (spikes[0], x)


def test_the_transposed_index_lists_the_synapses_of_each_output() -> None:
    found = matrix()
    pre = torch.repeat_interleave(found.indptr.diff())
    for j in range(M):
        own = found.order[found.columns[j] : found.columns[j + 1]]
        assert own.tolist() == (found.indices == j).nonzero()[:, 0].tolist()
        assert torch.equal(found.rows[found.columns[j] : found.columns[j + 1]].long(), pre[own])


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 2), (0,)])
@pytest.mark.parametrize("spikes_of", ["pre", "post"])
def test_equals_plain_torch_to_the_last_bit(batch: tuple[int, ...], spikes_of: str) -> None:
    assert module.prepare()
    found, seed = matrix(), itertools.count()
    for bound, (room, share) in itertools.product((None, 1.5, -1.5), ((0, 0), (1, 0), (0, 1), (1, 1), (0.4, 0.3))):
        if bound is None and room + share:
            continue
        limit = None if bound is None else torch.tensor(bound)
        weight = torch.rand(S, generator=torch.Generator().manual_seed(next(seed))) * (bound or 1.0)
        for k in range(6):
            y, x = values(*batch, seed=100 + k, spikes_of=spikes_of)
            new = add_pairs(weight, y, x, found, limit, room, share)
            wanted = weight if batch == (0,) else plain(weight, y, x, *found, limit, float(room), float(share))
            if room == 0.4:  # of powers the last bit may differ
                assert (new - wanted).abs().max() < 1e-15
            else:
                assert torch.equal(new, wanted)
            assert bound is None or bool(((new / bound >= 0) & (new / bound <= 1)).all())
            weight = new
    if batch != (0,):
        assert (weight - weight[0]).abs().max() > 0.1


def test_the_rest_stays_as_it_is() -> None:
    """A weight beyond the bound, which no spike reaches, and one that is not finite."""
    found, weight = matrix(), torch.full((S,), 7.0)
    weight[3] = torch.nan
    y, x = torch.ones(M), torch.zeros(N)
    x[5] = 1
    new, own = add_pairs(weight, y, x, found, torch.tensor(1.0)), slice(int(found.indptr[5]), int(found.indptr[6]))
    assert bool((new[own] == 1).all())
    new[own] = 7
    assert torch.equal(new.nan_to_num(-1), weight.nan_to_num(-1))
    OPS.event_add_pairs_(weight, y, x, *found, torch.tensor(1.0), 0.0, 0.0)
    assert bool((weight[own] == 1).all())


@pytest.mark.parametrize(("room", "share"), [(0.0, 0.0), (1.0, 0.5)])
def test_gradients(room: float, share: float) -> None:
    found, limit = matrix(), torch.tensor(2.0)
    y, x = values(2, seed=1)
    weight = 0.1 + 1.8 * torch.rand(S, generator=torch.Generator().manual_seed(1))
    inputs = [tensor.detach().requires_grad_() for tensor in (weight, y * 0.01, x)]
    arguments = (limit, room, share)
    assert torch.autograd.gradcheck(lambda w, y, x: add_pairs(w, y, x, found, *arguments), inputs, fast_mode=True)
    inputs[1] = y.clone().requires_grad_()  # so that many a weight is cut off
    pulled = [
        torch.autograd.grad(new.square().sum(), inputs)
        for new in (add_pairs(*inputs, found, *arguments), plain(*inputs, *found, *arguments))
    ]
    for own, other in zip(*pulled, strict=True):
        torch.testing.assert_close(own, other)
    assert room or int((pulled[0][0] == 0).sum()) > 5


def test_under_vmap() -> None:
    found, limit = matrix(), torch.tensor(2.0)
    y, x = values(3, seed=2)
    weight = torch.rand(S, generator=torch.Generator().manual_seed(1))
    together = torch.func.vmap(lambda y, x: add_pairs(weight, y, x, found, limit))(y, x)
    for k in range(3):
        assert torch.equal(together[k], add_pairs(weight, y[k], x[k], found, limit))


def changed(name: str, place: int, value: int) -> Matrix:
    found = matrix()
    getattr(found, name).data[place] = value
    return found


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: changed("indices", 3, M), r"indices\[3\] = 15 is out of range; wanted 0 to 14"),
        (lambda: changed("indices", 3, -1), r"indices\[3\] = -1"),
        (lambda: changed("indptr", 1, 2**31 - 1), r"indptr\[1\]"),
        (lambda: changed("rows", 3, N), r"rows\[3\] = 20 is out of range; wanted 0 to 19"),
        (lambda: changed("columns", 2, -1), r"columns\[2\] = -1"),
        (lambda: changed("order", 3, S), r"order\[3\] = 200 is none of the 200 synapses"),
        (lambda: changed("order", 3, -1), r"order\[3\] = -1"),
        (lambda: matrix()._replace(order=matrix().order[:-1]), "order has shape"),
        (lambda: matrix()._replace(order=matrix().order.long()), "order is Long"),
        (lambda: matrix()._replace(rows=matrix().rows[:-1]), "order has shape"),
        (lambda: matrix()._replace(columns=matrix().columns[:-1]), "wanted one more each"),
        (lambda: matrix()._replace(indptr=matrix().indptr[:0]), "indptr is empty"),
        (lambda: matrix()._replace(indices=matrix().indices.float()), "indices is Float"),
    ],
)
def test_a_wrong_index_is_refused(wrong, words: str) -> None:
    assert module.prepare()
    found, weight = wrong(), torch.ones(S)
    y, x = torch.ones(M), torch.ones(N)
    (x if words.startswith("ind") else y)[3:] = 0  # the side of which the rows, or the columns, are looked at
    with pytest.raises((ValueError, TypeError), match=words):
        OPS.event_add_pairs(weight, y, x, *found, None, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("indices", 3, M, r"indices\[3\] = 15 is out of range; wanted 0 to 14"),
        ("indices", 3, -1, r"indices\[3\] = -1"),
        ("indptr", 1, 2**31 - 1, "indptr must hold one start for each input"),
    ],
)
def test_plain_torch_refuses_a_wrong_index_too(name: str, place: int, value: int, words: str) -> None:
    found, weight = changed(name, place, value), torch.ones(S)
    with pytest.raises(ValueError, match=words):
        plain(weight, torch.ones(M), torch.ones(N), *found, None, 0.0, 0.0)
    with pytest.raises(ValueError, match=words):
        Matrix.of(found.indptr, found.indices, M)


def test_the_input_of_a_synapse_is_one_of_the_inputs_whatever_the_row_starts_are() -> None:
    found = matrix()
    assert torch.equal(module.sources(found.indptr, found.indices), torch.repeat_interleave(found.indptr.diff()))
    for value in (-5, 2**31 - 1):
        wrong = changed("indptr", 1, value)
        among = module.sources(wrong.indptr, wrong.indices)
        assert bool(((among >= 0) & (among < N)).all())


def test_other_tensors_are_checked() -> None:
    assert module.prepare()
    found, weight, y, x = matrix(), torch.ones(S), torch.ones(2, M), torch.ones(2, N)
    for arguments, words in (
        ((weight[:-1], y, x, *found, None, 0.0, 0.0), r"weight has shape \[199\] for 200 synapses"),
        ((weight[:, None], y, x, *found, None, 0.0, 0.0), "weight has shape"),
        ((weight.float(), y, x, *found, None, 0.0, 0.0), "weight is Float"),
        ((weight, y.float(), x, *found, None, 0.0, 0.0), "y is Float"),
        ((weight, y[:1], x, *found, None, 0.0, 0.0), "the same batch"),
        ((weight, y[:, :-1], x, *found, None, 0.0, 0.0), "wanted one more each"),
        ((weight, torch.ones(()), x, *found, None, 0.0, 0.0), "y has no dimensions"),
        ((weight.half(), y.half(), x.half(), *found, None, 0.0, 0.0), "Half"),
        ((weight, y, x, *found, torch.ones(2), 0.0, 0.0), r"bound has shape \[2\], wanted one for all"),
        ((weight, y, x, *found, torch.ones((), dtype=torch.float32), 0.0, 0.0), "bound is Float"),
        ((weight, y, x, *found, None, 1.0, 0.0), "room and share need a bound"),
    ):
        with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
            OPS.event_add_pairs(*arguments)
