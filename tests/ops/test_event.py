"""The operators check what they get, whoever calls them: nothing is read or written beyond a tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurodyn.ops import event, event_plain

OPS = torch.ops.neurodyn


def matrix() -> tuple[Tensor, Tensor]:
    """3 inputs, 4 outputs, 5 synapses."""
    return torch.tensor([0, 2, 2, 5], dtype=torch.int32), torch.tensor([1, 3, 0, 1, 3], dtype=torch.int32)


def dense(weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """The matrix ``(pre, post)``, synapse by synapse."""
    found = torch.zeros(len(indptr) - 1, n_out)
    for i in range(len(indptr) - 1):
        for k in range(int(indptr[i]), int(indptr[i + 1])):
            found[i, int(indices[k])] += weight[k]
    return found


def edited(tensor: Tensor, place: int, value: int) -> Tensor:
    tensor.data[place] = value  # no version of a tensor tells of this
    return tensor


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


#: What may be wrong with a matrix, and a word of the message.
WRONG = [
    (lambda p, j: (p, edited(j, 0, 10**9)), r"indices\[0\] = 1000000000"),
    (lambda p, j: (p, edited(j, 4, 4)), r"indices\[4\] = 4 is out of range; wanted 0 to 3"),
    (lambda p, j: (p, edited(j, 3, -1)), r"indices\[3\] = -1"),
    (lambda p, j: (edited(p, 3, 6), j), "indptr"),
    (lambda p, j: (edited(p, 0, -1), j), "indptr"),
    (lambda p, j: (edited(p, 1, 2**31 - 1), j), "indptr"),
    (lambda p, j: (p[:-1], j), "indptr"),
    (lambda p, j: (p[:0], j), "indptr"),
    (lambda p, j: (torch.cat((p, p[-1:])), j), "indptr"),
    (lambda p, j: (p, j[:3]), "indptr|weight has"),
    (lambda p, j: (p.long(), j), "indptr is"),
    (lambda p, j: (p, j.long()), "indices is"),
    (lambda p, j: (p, j.float()), "indices is"),
    (lambda p, j: (p, j[:, None]), "indices"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
@pytest.mark.parametrize("plain", [False, True])
def test_a_wrong_matrix_is_refused(change, words: str, plain: bool) -> None:
    assert event.prepare()
    indptr, indices = change(*matrix())
    x, g, w = torch.ones(3, 3), torch.ones(3, 4), torch.ones(5)
    calls = [
        lambda ops, name: getattr(ops, name("matmul"))(x, w, indptr, indices, 4),
        lambda ops, name: getattr(ops, name("matmul"))(x, w[0], indptr, indices, 4),
        lambda ops, name: getattr(ops, name("input_grad"))(g, w, indptr, indices),
        lambda ops, name: getattr(ops, name("weight_grad"))(x, g, indptr, indices),
    ]
    for i, call in enumerate(calls):
        if i == 2 and len(indptr) not in (0, 4):
            continue  # another number of inputs, which only the other two can know
        with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
            call(*((event_plain, str) if plain else (OPS, "event_{}".format)))


def test_other_tensors_are_checked() -> None:
    x, w, g = torch.ones(2, 3), torch.ones(5), torch.ones(2, 4)
    p, j = matrix()
    for call, words in (
        (lambda: OPS.event_matmul(x, torch.ones(4), p, j, 4), r"weight has shape \[4\] for 5 synapses"),
        (lambda: OPS.event_matmul(x, torch.ones(5, 1), p, j, 4), "weight has shape"),
        (lambda: OPS.event_matmul(x, w.float(), p, j, 4), "weight is Float and the input Double"),
        (lambda: OPS.event_matmul(x.half(), w.half(), p, j, 4), "Half"),
        (lambda: OPS.event_matmul(x[:, :2], w, p, j, 4), "the input has 2 elements"),
        (lambda: OPS.event_matmul(torch.ones(()), w, p, j, 4), "no dimensions"),
        (lambda: OPS.event_matmul(x, w, p, j, -4), "-4 outputs"),
        (lambda: OPS.event_matmul(x.to_sparse(), w, p, j, 4), "(?i)sparse"),
        (lambda: OPS.event_input_grad(g, w[:2], p, j), "weight has shape"),
        (lambda: OPS.event_input_grad(g[:, :2], w, p, j), r"indices\[1\] = 3"),
        (lambda: OPS.event_weight_grad(x, g[:1], p, j), "the same batch"),
        (lambda: OPS.event_weight_grad(x, g.float(), p, j), "the gradient is Float"),
        (lambda: OPS.event_weight_grad(x, torch.ones(()), p, j), "no dimensions"),
    ):
        with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError), match=words):
            call()


def test_strided_tensors_are_read_as_they_are() -> None:
    p, j = matrix()
    x, w = torch.rand(3, 6), torch.rand(10)
    pairs = torch.stack((p, p), 1)[:, 0], torch.stack((j, j), 1)[:, 1]
    y = OPS.event_matmul(x.t()[::2], w[::2], *pairs, 4)
    assert (y - x.t()[::2] @ dense(w[::2], p, j, 4)).abs().max() < 1e-14


def test_an_error_in_a_thread_comes_back_and_the_next_call_works() -> None:
    """The rows are shared by threads; at::parallel_for hands on what one of them throws."""
    threads = torch.get_num_threads()
    random = torch.Generator().manual_seed(0)
    indptr = torch.arange(0, 64_001, 16, dtype=torch.int32)
    indices = torch.randint(50, (64_000,), dtype=torch.int32, generator=random)
    x, w, g = torch.ones(64, 4000), torch.rand(64_000, generator=random), torch.rand(64, 50, generator=random)
    torch.set_num_threads(4)
    try:
        wanted = [OPS.event_matmul(x, w, indptr, indices, 50), OPS.event_weight_grad(x, g, indptr, indices)]
        right = int(indices[63_999])
        for _ in range(20):
            indices[63_999] = 10**9
            for call in (
                lambda: OPS.event_matmul(x, w, indptr, indices, 50),
                lambda: OPS.event_input_grad(g, w, indptr, indices),
                lambda: OPS.event_weight_grad(x, g, indptr, indices),
            ):
                with pytest.raises(ValueError, match=r"indices\[63999\]"):
                    call()
            indices[63_999] = right
            assert torch.equal(OPS.event_matmul(x, w, indptr, indices, 50), wanted[0])
            assert torch.equal(OPS.event_weight_grad(x, g, indptr, indices), wanted[1])
    finally:
        torch.set_num_threads(threads)


def test_nothing_is_a_matrix_too() -> None:
    nothing = int32()
    for n_in, n_out in ((0, 0), (0, 3), (3, 0), (3, 3)):
        p = torch.zeros(n_in + 1, dtype=torch.int32)
        for batch in ((), (2,), (0,)):
            x, g, w = torch.ones(*batch, n_in), torch.ones(*batch, n_out), torch.ones(0)
            assert torch.equal(OPS.event_matmul(x, w, p, nothing, n_out), torch.zeros(*batch, n_out))
            assert torch.equal(OPS.event_input_grad(g, w, p, nothing), torch.zeros(*batch, n_in))
            assert not len(OPS.event_weight_grad(x, g, p, nothing))


@pytest.mark.parametrize("plain", [False, True])
def test_synapses_outside_all_rows_have_no_part(plain: bool) -> None:
    """indptr may start above 0 and end before the last synapse, as a file may say."""
    p, j = int32(1, 3, 3, 4), int32(3, 0, 1, 2, 9)
    w, x, g = torch.rand(5), torch.rand(2, 3), torch.rand(2, 4)
    j.data[4] = 3
    wanted = dense(w, p, j, 4)
    ops = event_plain if plain else OPS
    name = str if plain else "event_{}".format
    assert (getattr(ops, name("matmul"))(x, w, p, j, 4) - x @ wanted).abs().max() < 1e-14
    assert (getattr(ops, name("input_grad"))(g, w, p, j) - g @ wanted.T).abs().max() < 1e-14
    found = getattr(ops, name("weight_grad"))(x, g, p, j)
    assert (found - torch.autograd.functional.vjp(lambda w: x @ dense(w, p, j, 4), w, g)[1]).abs().max() < 1e-14
