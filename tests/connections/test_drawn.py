"""What a connection draws: weights, delays and biases from its generator, drawn delays in whole steps, and bars."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pint
import pytest
import torch
from scipy import stats
from torch import Tensor

import neurodyn as nd
from neurodyn import init
from neurodyn import units as u
from neurodyn.connections import csr
from neurodyn.tools import progress

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near(d: Tensor) -> Tensor:
    return torch.exp(-d)


CONNECTIONS: dict[str, Callable[..., nd.Sparse]] = {
    "FixedProb": lambda **options: nd.FixedProb(12, 9, 0.4, **options),
    "FixedNum": lambda **options: nd.FixedNum(12, 9, 4, **options),
    "FixedNum per post": lambda **options: nd.FixedNum(12, 9, 4, per="post", multapses=True, **options),
    "FixedTotal": lambda **options: nd.FixedTotal(12, 9, 40, **options),
    "DistanceProb": lambda **options: nd.DistanceProb(12, 9, near, **options),
    "Sparse": lambda **options: nd.Sparse(([2, 0, 1, 2], [0, 1, 1, 1]), (3, 2), **options),
}
DRAWN = {
    "weight": init.Normal(0.5 * u.nS, 0.1 * u.nS),
    "bias": init.Uniform(0 * u.nS, 1 * u.nS),
    "delay": init.Uniform(1 * u.ms, 5 * u.ms),
    "dt": 0.1 * u.ms,
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_generator_makes_all_of_it_reproducible(name: str) -> None:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        made.append(CONNECTIONS[name](generator=generator(7), **DRAWN))
        assert torch.equal(torch.get_rng_state(), before)
    first, second = (connection.state_dict() for connection in made)
    assert {"indices", "weight", "bias", "delays.delay"} <= first.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = CONNECTIONS[name](generator=generator(8), **DRAWN).state_dict()
    assert all(not torch.equal(first[key], other[key]) for key in ("weight", "bias", "delays.delay"))


def test_the_values_are_the_next_numbers_of_the_generator() -> None:
    random = generator(3)
    found = csr.fixed_prob(12, 9, 0.4, True, random)
    n = len(found.indices)
    weight, bias = 0.5 + 0.1 * torch.randn(n, generator=random), torch.rand(9, generator=random)
    delay = 1 + 4 * torch.rand(n, generator=random)
    given = generator(3)
    made = nd.FixedProb(12, 9, 0.4, generator=given, **DRAWN, interpolation="linear")
    assert torch.equal(made.post_index, found.indices)
    assert torch.equal(made.weight, weight)
    assert torch.equal(made.bias, bias)
    assert torch.equal(made.delay, delay)
    assert torch.equal(given.get_state(), random.get_state())  # what is drawn next is new


def test_without_a_generator_all_is_drawn_from_that_of_torch() -> None:
    torch.manual_seed(5)
    n = len(csr.fixed_prob(12, 9, 0.4, True, None).indices)
    weight = 0.5 + 0.1 * torch.randn(n)
    torch.manual_seed(5)
    assert torch.equal(nd.FixedProb(12, 9, 0.4, weight=DRAWN["weight"]).weight, weight)


def test_an_initialiser_keeps_the_generator_of_its_own() -> None:
    own, given = generator(1), generator(2)
    made = nd.FixedNum(10, 10, 3, weight=init.Normal(0.0, 1.0, own), generator=given)
    assert torch.equal(made.weight, torch.randn(30, generator=generator(1)))
    expected = generator(2)
    csr.fixed_num(10, 10, 3, True, expected)
    assert torch.equal(given.get_state(), expected.get_state())
    shared, alone = generator(4), generator(4)  # the same one given twice draws as it always did
    twice = nd.FixedNum(10, 10, 3, weight=init.Normal(0.0, 1.0, shared), generator=shared)
    assert torch.equal(twice.weight, nd.FixedNum(10, 10, 3, weight=init.Normal(0.0, 1.0), generator=alone).weight)
    assert torch.equal(shared.get_state(), alone.get_state())


def test_functions_of_ones_own_draw_from_it_too() -> None:
    def noisy(d: Tensor) -> Any:
        return (1 + d + torch.rand(d.shape)) * u.ms

    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        options = {"delay": nd.OfDistance(noisy), "dt": 0.1 * u.ms, "interpolation": "linear"}
        made.append(nd.DistanceProb(8, 8, near, weight=torch.randn, generator=generator(), **options))  # type: ignore[arg-type]
    assert torch.equal(made[0].weight, made[1].weight)
    assert torch.equal(made[0].delay, made[1].delay)
    assert len(made[0].delay.unique()) == len(made[0].delay)
    random = generator()

    def mixed(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape) + torch.rand(shape, generator=random)

    with pytest.raises(ValueError, match=r"FixedNum\(5, 5\): weight: .* leave generator out of the initialiser"):
        nd.FixedNum(5, 5, 2, weight=mixed, generator=random)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        nd.FixedNum(5, 5, 2, weight=lambda shape: torch.randn(shape) / (0 // 0), generator=random)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawn_delays_are_rounded_to_steps(dtype: torch.dtype) -> None:
    low, high, dt = 0.0, 2.0, 0.25
    drawn = init.Uniform(low * u.ms, high * u.ms)
    exact = nd.FixedProb(
        30, 20, 0.5, weight=1.0, delay=drawn, dt=dt * u.ms, interpolation="linear", generator=generator(), dtype=dtype
    )
    made = nd.FixedProb(30, 20, 0.5, weight=1.0, delay=drawn, dt=dt * u.ms, generator=generator(), dtype=dtype)
    steps = np.maximum(np.rint(exact.delay.double().numpy() / dt), 1)
    assert (np.rint(exact.delay.double().numpy() / dt) == 0).any()
    assert (made.delay.double().numpy() == steps * dt).all()
    expected = np.zeros((12, 20))
    for post, step in zip(made.post_index.tolist(), steps.astype(int), strict=True):
        expected[step, post] += 1
    made.arrivals.reset_state()
    assert made.read().tolist() == [0.0] * 20  # it can be read: no delay is shorter than a step
    found = [made(torch.full((30,), float(step == 0), dtype=dtype)).tolist() for step in range(12)]
    assert (np.array(found) == expected).all()


def test_delays_of_the_distance_and_of_neurons_are_rounded() -> None:
    options = {"weight": 1.0, "extent": 3.0, "dt": 0.1 * u.ms}
    line = nd.DistanceProb(3, 3, torch.ones_like, delay=nd.OfDistance(lambda d: 0.234 * d * u.ms), **options)
    assert line.delay.tolist() == pytest.approx([0, 0.2, 0.5, 0.2, 0, 0.2, 0.5, 0.2, 0])  # one of zero stays zero
    by_hand = nd.OfDistance(lambda d: 0.1 * (5 + d / 0.3).round() * u.ms)
    kept = nd.DistanceProb(3, 3, torch.ones_like, delay=by_hand, **options)
    assert kept.delay.tolist() == pytest.approx((0.1 * (5 + kept.distance / 0.3).round()).tolist(), rel=1e-15)
    drawn = init.Exponential(0.3 * u.ms, generator(6))
    layer = nd.Delay(500, drawn, dt=0.1 * u.ms)
    raw = 0.3 * torch.empty(500).exponential_(generator=generator(6)).numpy()
    steps = np.maximum(np.rint(raw / 0.1), 1)
    assert layer.delay.tolist() == pytest.approx((0.1 * steps).tolist(), rel=1e-15)
    pulse = torch.zeros(int(steps.max()) + 2, 500)
    pulse[0] = 1
    out = nd.unroll(layer, pulse, compile=False)
    assert (out.argmax(0).numpy() == steps).all()
    assert (out.sum(0) == 1).all()


def test_delays_that_were_given_are_not_rounded() -> None:
    words = r"is no multiple of dt=0.1 ms; round it, or pass interpolation='linear'"
    for delay in (1.23 * u.ms, torch.tensor([1.0, 1.23]) * u.ms):
        with pytest.raises(ValueError, match=words):
            nd.Sparse(([0, 1], [1, 0]), (2, 2), weight=1.0, delay=delay, dt=0.1 * u.ms)
        with pytest.raises(ValueError, match=words):
            nd.Delay(2, delay, dt=0.1 * u.ms)
    with pytest.raises(ValueError, match="zero or positive"):
        nd.FixedNum(50, 50, 9, weight=1.0, delay=init.Normal(0 * u.ms, 1 * u.ms), dt=0.1 * u.ms)


def gamma(mean: float, std: float) -> Any:
    return stats.gamma((mean / std) ** 2, scale=std**2 / mean)


def lognormal(mean: float, std: float) -> Any:
    variance = np.log(1 + (std / mean) ** 2)
    return stats.lognorm(np.sqrt(variance), scale=mean * np.exp(-variance / 2))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda sign, g: init.LogNormal(sign * 3 * u.nS, 2000 * u.pS, g), lognormal(3, 2)),
        (lambda sign, g: init.LogNormal(sign * 0.5 * u.nS, 0.05 * u.nS, g), lognormal(0.5, 0.05)),
        (lambda sign, g: init.Gamma(sign * 3 * u.nS, 2000 * u.pS, g), gamma(3, 2)),
        (lambda sign, g: init.Gamma(sign * 0.5 * u.nS, 1 * u.nS, g), gamma(0.5, 1)),
        (lambda sign, g: init.Exponential(sign * 2000 * u.pS, g), stats.expon(scale=2)),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_distributions(build: Callable[..., Any], expected: Any, sign: int) -> None:
    drawn = build(sign, generator(2))((400, 250))
    assert drawn.units == u.nS
    values = sign * drawn.magnitude.flatten().numpy()
    assert drawn.magnitude.shape == (400, 250)
    mean, variance, kurtosis = (float(x) for x in expected.stats("mvk"))
    assert abs(values.mean() - mean) < 5 * (variance / len(values)) ** 0.5
    assert abs(values.var() / variance - 1) < 5 * ((kurtosis + 2) / len(values)) ** 0.5
    assert stats.kstest(values, expected.cdf).pvalue > 1e-4
    before = torch.get_rng_state()
    again, other = build(sign, generator(2))((400, 250)), build(sign, generator(3))((400, 250))
    assert torch.equal(again.magnitude, drawn.magnitude)
    assert not torch.equal(other.magnitude, drawn.magnitude)
    assert torch.equal(torch.get_rng_state(), before)
    one = build(sign, generator(2))
    assert not torch.equal(one((9,)).magnitude, one((9,)).magnitude)
    made = nd.FixedNum(40, 40, 20, weight=build(sign, None), generator=generator())
    same = nd.FixedNum(40, 40, 20, weight=build(sign, None), generator=generator())
    assert torch.equal(made.weight, same.weight)
    assert made.unit == u.nS


def test_what_the_distributions_refuse() -> None:
    assert init.LogNormal(2 * u.mV, 0 * u.mV)((3,)).magnitude.tolist() == [2, 2, 2]
    assert init.Gamma(2 * u.mV, 0 * u.mV)((3,)).magnitude.tolist() == [2, 2, 2]
    for kind in (init.LogNormal, init.Gamma):
        with pytest.raises(ValueError, match=f"{kind.__name__}: mean must be a number other than 0, got 0"):
            kind(0 * u.nS, 1 * u.nS)((3,))
        with pytest.raises(ValueError, match=f"{kind.__name__}: std must be zero or positive, got -1"):
            kind(2.0, -1.0)((3,))
        with pytest.raises(pint.DimensionalityError, match="std must have the dimension of mean"):
            kind(1 * u.nS, 1 * u.mV)((3,))


def test_itself_and_several_synapses() -> None:
    assert nd.OneToOne(3, weight=[1.0, 2.0, 3.0], include_self=True)(torch.ones(3)).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"OneToOne\(3\): include_self=False leaves no connection.* nd.AllToAll\(3, 3"):
        nd.OneToOne(3, include_self=False)
    same = (nd.FixedProb(6, 5, 0.5, weight=1.0, generator=generator(), **k) for k in ({}, {"multapses": False}))
    assert torch.equal(*(made.indices for made in same))
    with pytest.raises(
        ValueError, match=r"FixedProb\(6, 5\): .* nd.FixedTotal\(6, 5, 15, .*multapses=True\), or nd.Fi"
    ):
        nd.FixedProb(6, 5, 0.5, weight=1.0, multapses=True)


@pytest.mark.parametrize(
    ("draw", "total"),
    [
        (lambda: csr.fixed_prob(60, 60, 0.5, False, generator()), None),
        (lambda: csr.fixed_prob(60, 60, 1.0, True, generator()), 3600),
        (lambda: csr.fixed_num(60, 60, 20, True, generator()), 1200),
        (lambda: csr.fixed_total(60, 60, 900, True, generator(), True), 1800),
        (lambda: csr.transposed(torch.randint(9, (60, 20), dtype=torch.int32), 9), 1200),
        (lambda: csr.by_distance(torch.rand(60, 2), torch.rand(60, 2), near, None, True, generator()), 3600),
    ],
)
def test_progress_counts_what_is_drawn(
    draw: Callable[[], Any], total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, steps = [], []

    @contextlib.contextmanager
    def bar(total: int, **options: Any) -> Any:
        calls.append((total, options["wanted"], options["after"]))
        yield SimpleNamespace(update=steps.append)

    monkeypatch.setattr(progress, "bar", bar)
    draw()
    monkeypatch.setattr(csr, "BLOCK", 100)
    steps.clear()
    draw()
    (expected, wanted, after), (_, wanted_too, _) = calls
    assert (wanted, wanted_too, after) == (False, True, 2.0)
    assert len(steps) > 5
    if total is None:  # pairs with themselves are drawn and left out
        assert abs(sum(steps) - 1800) < 5 * 900**0.5
        assert expected == 1800
    else:
        assert sum(steps) == expected == total


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(d: Tensor) -> Tensor:
        time.sleep(0.01)
        return near(d)

    def shown(output: io.StringIO) -> str:
        monkeypatch.setattr(sys, "stderr", output)
        nd.DistanceProb(40, 40, slow, weight=1.0)
        return output.getvalue()

    assert not shown(Terminal())  # one block
    monkeypatch.setattr(csr, "BLOCK", 160)
    assert not shown(Terminal()).strip()  # quicker than two seconds
    monkeypatch.setattr(csr, "SHOWN_AFTER", 0.05)
    text = shown(Terminal())
    assert "1.60k/1.60k" in text or re.search(r"\d+/1600 \[.* pairs/s\]", text)
    assert text.endswith("\r")  # wiped out
    assert not shown(io.StringIO())  # no terminal


def test_a_misspelt_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"FixedProb has no parameter 'delai'; it takes pre, .*did you mean delay="):
        nd.FixedProb(3, 4, 0.5, weight=1.0, delai=1 * u.ms)
    assert list(inspect.signature(nd.FixedProb).parameters)[:4] == ["pre", "post", "prob", "weight"]
    assert "delay" in inspect.signature(nd.FixedNum).parameters
