"""Functions that `simulate` calls between steps, and conditions that end it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

X = torch.tensor([0.5, 1.2, 1.9], dtype=torch.float64)


def lif() -> nd.LIF:
    return nd.LIF(3, tau=9 * u.ms, R=1 * u.Gohm, dt=0.5 * u.ms)


@pytest.mark.parametrize("compile", [False, True])
def test_a_function_sees_and_sets_states_and_parameters(compile: bool) -> None:
    net, seen = lif(), []

    def change(net: nn.Module, t: u.Quantity) -> None:
        seen.append((float(t.to("ms").magnitude), net.V.clone()))
        net.V[0] = 0.25
        net.V_th = net.V_th + 0.1

    found = nd.simulate(net, 20 * u.ms, nd.constant(X), ("V", "spikes"), every=(3 * u.ms, change), compile=compile)
    twin, V, spikes, at = lif(), [], [], []
    nd.reset_states(twin)
    with torch.no_grad():
        for step in range(1, 41):
            spikes.append(twin(X))
            V.append(twin.V)
            if step % 6 == 0:
                at.append((step * 0.5, twin.V))
                twin.V = torch.cat((torch.tensor([0.25], dtype=torch.float64), twin.V[1:]))
                twin.V_th = twin.V_th + 0.1
    torch.testing.assert_close(found["V"].values, torch.stack(V), rtol=1e-12, atol=1e-14)
    assert torch.equal(found["spikes"].to_tensor(), torch.stack(spikes))
    assert [t for t, _ in seen] == [t for t, _ in at] == [3.0, 6.0, 9.0, 12.0, 15.0, 18.0]
    for (_, one), (_, other) in zip(seen, at, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_several_functions_in_order_and_with_the_time_of_a_part() -> None:
    called: list[str] = []

    def note(name: str):
        return lambda _, t: called.append(f"{name}{t.to('ms').magnitude:g}")

    net = lif()
    pairs = [(2 * u.ms, note("a")), (0.003 * u.s, note("b"))]
    until = (3 * u.ms, note("c"))  # None is not true
    first = nd.simulate(net, 4 * u.ms, nd.constant(X), every=pairs, until=until, compile=False)
    assert called == ["a2", "b3", "c3", "a4"]
    called.clear()
    nd.simulate(net, 2 * u.ms, nd.constant(X), every=pairs, states=first.states, start=first.step, compile=False)
    assert called == ["a6", "b6"]


@pytest.mark.parametrize("compile", [False, True])
def test_the_run_ends_at_the_first_check_that_is_true(compile: bool) -> None:
    net = lif()
    whole = nd.simulate(net, 30 * u.ms, nd.constant(X), ("V", "spikes"), compile=compile)
    above = whole["V"].values[:, 0] > 0.4
    step = next(k for k in range(5, 60, 5) if above[k - 1])
    assert 5 < step < 60
    until = (2.5 * u.ms, lambda net, t: net.V[0] > 0.4)
    found = nd.simulate(net, 30 * u.ms, nd.constant(X), ("V", "spikes"), until=until, compile=compile)
    assert found.step == found["spikes"].stop == len(found["V"].values) == step
    assert torch.equal(found["V"].values, whole["V"].values[:step])
    assert len(found["spikes"]) == int((whole["spikes"].steps < step).sum()) > 0
    assert torch.equal(found.states["V"], found["V"].values[-1])
    after = {"states": found.states, "start": found.step}
    rest = nd.simulate(net, 30 * u.ms - step * 0.5 * u.ms, nd.constant(X), ("V", "spikes"), compile=compile, **after)
    assert torch.equal(nd.Recording.join(found, rest)["V"].values, whole["V"].values)


def test_drawn_inputs_do_not_depend_on_calls() -> None:
    def noise(first: int, steps: int, generator: torch.Generator) -> Tensor:
        return torch.rand(steps, 3, generator=generator)

    one, other = (
        nd.simulate(lif(), 40 * u.ms, noise, ["V"], compile=False, **options)["V"].values
        for options in ({}, {"every": (1.5 * u.ms, lambda *_: None)})
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"every": (0.7 * u.ms, print)},
            ValueError,
            r"the interval of every must be a positive multiple of dt=0\.5",
        ),
        ({"until": (1, print)}, TypeError, "the interval of until needs a unit"),
        ({"every": print}, TypeError, r"every is a builtin_function_or_method, wanted every=\(10 \* u\.ms, f\)"),
        ({"until": [(1 * u.ms, 3)]}, TypeError, "until holds .* or a list of such pairs"),
        (
            {"every": (1 * u.ms, lambda net, _: net.reset_state(4))},
            ValueError,
            r"has changed V to shape \(4, 3\) of torch.float64, wanted \(3,\)",
        ),
    ],
)
def test_errors(options, error, words: str) -> None:
    with pytest.raises(error, match=words):
        nd.simulate(lif(), 10 * u.ms, nd.constant(X), compile=False, **options)
