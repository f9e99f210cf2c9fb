"""What cannot be known to be pure runs step by step, and says why; trying it has changed nothing."""

from __future__ import annotations

import cProfile
import functools
import itertools
import operator
import random
import sys
import threading
import time
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import paths
import pytest
import torch
from paths import fallback
from torch import Tensor, nn

import neurodyn as nd
from neurodyn.purity import watching
from neurodyn.purity.snapshot import Snapshot
from neurodyn.purity.watching import Watching
from neurodyn.tools.errors import NotCompilable

pytestmark = pytest.mark.usefixtures("no_programs", "unsaid")
STEPS, TABLE, COUNT = 5, {"gain": 2.0}, 0


class Held:
    def __init__(self) -> None:
        self.n = 0


class Impure(nn.Module):
    """Does something besides computing at every step."""

    def __init__(self, does: Any):
        super().__init__()
        self.lif, self.does = nd.LIF(4), does
        self.calls, self.seen, self.held = 0, [], Held()

    def forward(self, x: Tensor) -> Tensor:
        self.does(self)
        return self.lif(x)


def counts_calls(net: Impure) -> None:
    net.calls += 1


def appends(net: Impure) -> None:
    net.seen.append(1)


def changes_an_object(net: Impure) -> None:
    net.held.n += 1


def changes_a_global(net: Impure) -> None:
    TABLE["gain"] += 1


def assigns_a_global(net: Impure) -> None:
    global COUNT
    COUNT += 1


def prints(net: Impure) -> None:
    print("step")


def draws_of_numpy(net: Impure) -> None:
    np.random.rand()  # noqa: NPY002


def draws_of_python(net: Impure) -> None:
    random.random()


EFFECTS = {
    counts_calls: "its step changes Impure",
    appends: "its step changes Impure.seen",
    changes_an_object: "its step changes Impure.held",
    changes_a_global: "its step changes the global variable TABLE",
    assigns_a_global: "its step assigns the global variable COUNT",
    prints: "its step calls print, whose effects cannot be seen",
    draws_of_numpy: "",
    draws_of_python: "",
}


@pytest.mark.parametrize(("does", "reason"), EFFECTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_effects_are_had_at_every_step(does: Any, reason: str, capfd: Any) -> None:
    net, xs = Impure(does), 3 * torch.rand(STEPS, 2, 4)
    fallback(net, xs, f"Impure runs step by step in Python: {reason}")
    now = {
        "calls": net.calls,
        "seen": len(net.seen),
        "held": net.held.n,
        "table": round(TABLE["gain"] - 2),
        "count": COUNT,
        "printed": capfd.readouterr().out.count("step"),
    }
    TABLE["gain"], globals()["COUNT"] = 2.0, 0
    assert sorted(now.values()) in ([0] * 6, [0] * 5 + [2 * STEPS])
    assert any(now.values()) == (does not in (draws_of_numpy, draws_of_python))


def test_random_numbers_of_python_are_other_ones_at_every_step() -> None:
    class Noise(nd.Dynamics):
        r = nd.state(0.0)

        def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
            return x * random.random(), r + x

    xs = torch.ones(STEPS, 2, 4)
    random.seed(3)
    with pytest.warns(nd.EagerWarning):
        ys = nd.unroll(Noise(4), xs)
    random.seed(3)
    assert torch.equal(ys[:, 0, 0], torch.tensor([random.random() for _ in range(STEPS)]))


def test_generators_of_the_module() -> None:
    class Noise(nd.Dynamics):
        r = nd.state(0.0)

        def __init__(self) -> None:
            super().__init__(4)
            self.random = np.random.default_rng(3)

        def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
            return x * float(self.random.random()), r + x

    with pytest.warns(nd.EagerWarning):
        ys = nd.unroll(Noise(), torch.ones(STEPS, 2, 4))
    assert torch.equal(ys[:, 0, 0], torch.from_numpy(np.random.default_rng(3).random(STEPS)))


def test_a_closure_that_counts() -> None:
    calls = 0

    def does(net: Impure) -> None:
        nonlocal calls
        calls += 1

    fallback(Impure(does), torch.rand(STEPS, 2, 4), "its step changes")
    assert calls == 2 * STEPS


def test_an_exception_that_the_step_catches_hides_nothing() -> None:
    def does(net: Impure) -> None:
        try:
            print("step")
        except Exception:
            net.calls = 0

    fallback(Impure(does), torch.rand(STEPS, 2, 4), "its step calls print")


def test_values_are_read_anew_where_they_change() -> None:
    net, xs = Impure(lambda net: None), 3 * torch.rand(STEPS, 2, 4)
    for gain in (1.0, 2.0, 1.0):
        net.does = lambda net, gain=gain: setattr(net, "unused", None) if gain > 2 else None
        assert torch.equal(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))


def test_recurrent_networks_of_ones_own_are_pure() -> None:
    """Helpers, comprehensions, dataclass-like containers, and functions of the standard library."""
    from functools import partial, reduce
    from operator import add

    def scaled(x: Tensor, by: float) -> Tensor:
        return x * by

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nd.Expon(4, learn="tau") for _ in range(3))
            self.scales = [partial(scaled, by=float(i)) for i in range(3)]

        def forward(self, x: Tensor) -> Tensor:
            return reduce(add, [layer(scale(x)) for layer, scale in zip(self.layers, self.scales, strict=True)])

    net, xs = Own(), torch.rand(STEPS, 2, 4)
    torch.testing.assert_close(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))  # a warning would be an error


def test_a_snapshot_tells_and_puts_back() -> None:
    net = Impure(counts_calls)
    snapshot = Snapshot(effects=True)
    snapshot.take("net", net)
    assert snapshot.change() is None
    changes = {
        "net.calls": lambda: setattr(net, "calls", 3),
        "net.seen": lambda: net.seen.append(1),
        "net.held": lambda: setattr(net.held, "n", 1),
        "net.lif": lambda: setattr(net, "lif", nd.LIF(4)),
    }
    lif = net.lif
    for name, change in changes.items():
        change()
        assert snapshot.change() is not None, name
        snapshot.restore()
        assert snapshot.change() is None, name
    assert (net.calls, net.seen, net.held.n, net.lif) == (0, [], 0, lif)


def test_watching_puts_back_what_it_refuses() -> None:
    net = Impure(appends)
    with pytest.raises(NotCompilable, match=r"changes Impure\.seen"), Watching(net):
        appends(net)
    assert net.seen == []
    with Watching(net, strict=False):
        appends(net)
    assert net.seen == []


class Log(list):
    calls = 0


class Config(dict):
    pass


class Kind(type):
    gain = 1.0


class OfAKind(metaclass=Kind):
    pass


@functools.lru_cache
def remembered() -> float:
    return TABLE["gain"]


CONSTANT = torch.full((4,), 2.0)


def counting() -> Any:
    it = itertools.count()
    return lambda net: float(next(it))


def ticks(net: Any) -> float:
    net.marked.n = getattr(net.marked, "n", 0) + 1
    return float(net.marked.n)


class Calling:
    def __init__(self) -> None:
        it = itertools.count()
        self.next = lambda: next(it)

    def __call__(self, net: Any) -> float:
        return float(self.next())


class Slots:
    __slots__ = ("__n",)

    def __init__(self) -> None:
        self.__n = 0

    def tick(self) -> float:
        self.__n += 1
        return float(self.__n)


class Extended(list):
    __slots__ = ("n",)

    def tick(self) -> float:
        self.n = getattr(self, "n", 0) + 1
        return float(self.n)


class Asking(nn.Module):
    """Multiplies by a number that it asks for in a way that a trace cannot follow."""

    def __init__(self, asks: Any):
        super().__init__()
        self.lif, self.asks, self.w = nd.LIF(4), asks, nn.Parameter(torch.ones(4))
        self.log, self.config, self.count = Log(), Config(), {"t": itertools.count()}
        self.config.gain, self.w.gain = 1.0, 2.0
        self.next, self.large, self.module = itertools.count().__next__, [np.ones(200_000)], paths
        self.which, self.slots, self.extended, self.marked = "next", Slots(), Extended(), torch.zeros(2)
        self.kept, self.rates, self.gain_name = [self.w], {self.w: 3.0}, "gain"

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(x) * self.w * self.asks(self)


def imports(net: Asking) -> float:
    import paths

    return float(paths.GAIN)


def imports_a_name(net: Asking) -> float:
    from paths import GAIN

    return float(GAIN)


def a_module_by_another_name(net: Asking) -> float:
    other = paths
    return float(other.GAIN)


#: How the number is asked for.
QUESTIONS = {
    "a count in a dict": lambda net: float(next(net.count["t"])),
    "a bound method of an iterator": lambda net: float(net.next()),
    "a large array in a list": lambda net: float(net.large[0][0]),
    "an attribute of a list": lambda net: float(setattr(net.log, "calls", net.log.calls + 1) or 1),
    "a module in an attribute": lambda net: float(net.module.GAIN),
    "a module by another name": a_module_by_another_name,
    "an import": imports,
    "an imported name": imports_a_name,
    "globals": lambda net: globals()["TABLE"]["gain"],
    "a function that remembers": lambda net: remembered(),
    "the grad mode": lambda net: 2.0 if torch.is_grad_enabled() else 1.0,
    "the inference mode": lambda net: 2.0 if torch.is_inference_mode_enabled() else 1.0,
    "the seed": lambda net: 1.0 + torch.initial_seed() % 7,
    "requires_grad": lambda net: 2.0 if net.w.requires_grad else 1.0,
    "requires_grad by its name": lambda net: 2.0 if getattr(net.w, "requires_grad") else 1.0,  # noqa: B009
    "the class of a parameter": lambda net: 2.0 if isinstance(net.w, nn.Parameter) else 1.0,
    "an attribute of a parameter": lambda net: net.w.gain,
    "the list of a global tensor": lambda net: CONSTANT.tolist()[0],
    "an attribute whose name is data": lambda net: float(getattr(net, net.which)()),
    "an attribute in vars": lambda net: float(vars(net)[net.which]()),
    "private slots": lambda net: net.slots.tick(),
    "slots of a list": lambda net: net.extended.tick(),
    "an attribute of a tensor": ticks,
    "the name of the class of a parameter": lambda net: 2.0 if type(net.w).__name__ == "Parameter" else 1.0,
    "the identity of a parameter": lambda net: 2.0 if net.w is net.kept[0] else 1.0,
    "a table by parameter": lambda net: net.rates.get(net.w, 1.0),
    "an attribute of a parameter whose name is data": lambda net: getattr(net.w, net.gain_name, 1.0),
    "the precision of products": lambda net: 2.0 if torch.get_float32_matmul_precision() == "highest" else 1.0,
    "the number of threads": lambda net: float(torch.get_num_threads()),
    "anomaly mode": lambda net: 2.0 if torch.is_anomaly_enabled() else 1.0,
    "a setting of a backend": lambda net: 2.0 if torch.backends.mkldnn.enabled else 1.0,
    "the seed of the generator": lambda net: 1.0 + torch.default_generator.initial_seed() % 7,
}


#: The same, each made anew.
COUNTERS = {
    "an iterator as a default": lambda: lambda net, it=itertools.count(): float(next(it)),
    "an iterator in a closure": counting,
    "an iterator in an object that is called": Calling,
}


@pytest.mark.parametrize("question", [*QUESTIONS, *COUNTERS])
def test_what_a_trace_would_answer_in_another_way_is_asked_at_every_step(question: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(paths, "GAIN", 1.0, raising=False)
    xs = 3 * torch.rand(5, 2, 4)

    def twice(compile: bool) -> Tensor:
        """Two runs, with other answers for the second one."""
        net, ys = Asking(COUNTERS[question]() if question in COUNTERS else QUESTIONS[question]), []
        for gain in (1.0, 4.0):
            monkeypatch.setattr(paths, "GAIN", gain)
            torch.manual_seed(int(gain))
            CONSTANT.fill_(gain)
            ys.append(nd.unroll(net, xs, compile=compile))
        return torch.cat(ys)

    remembered()
    with torch.no_grad(), pytest.warns(nd.EagerWarning, match="Asking runs step by step"):
        compiled = twice(True)
    with torch.no_grad():
        plain = twice(False)
    assert torch.equal(compiled, plain)
    assert plain.any()


@pytest.mark.parametrize(
    "value",
    [int | None, list[int], torch.finfo(torch.float32), operator.itemgetter(0), Decimal(2), np.dtype("f8")],
)
def test_constants_of_the_standard_library_are_no_reason(value: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(globals(), "VALUE", value)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(x) if VALUE else x  # noqa: F821

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nd.unroll(Net(), torch.rand(2, 2, 4))


def test_attention_without_dropout_is_compiled() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.lif = nn.MultiheadAttention(4, 2, batch_first=True), nd.LIF((3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.attention(x, x, x, need_weights=False)[0])

    net, xs = Net().double(), torch.rand(2, 2, 3, 4, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = nd.unroll(net, xs)
    torch.testing.assert_close(compiled, nd.unroll(net, xs, compile=False))


def test_a_thread_that_draws_is_no_reason() -> None:
    """The global generators belong to all threads; what another one has drawn meanwhile is not drawn again."""
    stop, drawn = threading.Event(), []

    def draw() -> None:
        while not stop.is_set():
            drawn.append((random.random(), np.random.rand()))  # noqa: NPY002
            time.sleep(0)

    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    thread = threading.Thread(target=draw)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nd.unroll(nd.LIF(4), torch.rand(5, 2, 4))
    finally:
        stop.set()
        thread.join()
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    assert drawn == [(random.random(), np.random.rand()) for _ in drawn]  # noqa: NPY002


def test_attributes_of_classes_of_ones_own_are_seen_to_change() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.config, self.kind = nd.LIF(4), Config(), OfAKind
            self.config.gain = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(x) * self.config.gain * self.kind.gain

    net, xs = Net(), 3 * torch.rand(5, 2, 4)
    once = nd.unroll(net, xs)
    net.config.gain = 2.0
    assert torch.equal(nd.unroll(net, xs), 2 * once)
    try:
        Kind.gain = 3.0
        assert torch.equal(nd.unroll(net, xs), 6 * once)
    finally:
        Kind.gain = 1.0


def test_code_in_packages_is_the_users_where_they_lie_below_the_standard_library() -> None:
    standard = watching._STANDARD
    assert watching._is_standard(standard + "json/decoder.py")
    assert not watching._is_standard(standard + "site-packages/mylib.py")
    assert not watching._is_trusted_file(watching._PACKAGES + "numpyro/infer.py")


def test_a_profiler_of_the_user_is_paused_and_goes_on():
    net, xs = nd.LIF(4), 3 * torch.rand(5, 2, 4)
    with cProfile.Profile() as profile:
        nd.unroll(net, xs)  # a warning would be an error
        text = str(xs.sum())
    names = {code.co_name for entry in profile.getstats() if hasattr(code := entry.code, "co_name")}
    assert "unroll" in names
    assert "_str" in names, text


def test_a_profile_function_of_the_user_goes_on():
    seen = []
    before = sys.getprofile()

    def see(frame, event, argument):
        seen.append(event)

    sys.setprofile(see)
    try:
        nd.unroll(nd.LIF(4), 3 * torch.rand(5, 2, 4))
        kept = sys.getprofile()
    finally:
        sys.setprofile(before)
    assert kept is see
    assert seen


CALLS: list[int] = []


def test_an_operator_of_the_user_is_seen(no_programs):
    """Its code runs inside torch's dispatcher, where torch's own operators are not looked into."""

    @torch.library.custom_op("neurodyn_test::halve", mutates_args=())
    def halve(x: Tensor) -> Tensor:
        return x / 2

    @halve.register_fake
    def _(x: Tensor) -> Tensor:
        CALLS.append(1)
        return torch.empty_like(x)

    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(torch.ops.neurodyn_test.halve(x))

    CALLS.clear()
    fallback(Halving(), torch.rand(5, 2, 4), "CALLS")
    assert CALLS == []


def test_an_operator_of_the_user_may_do_more_than_compute(no_programs):
    @torch.library.custom_op("neurodyn_test::third", mutates_args=())
    def third(x: Tensor) -> Tensor:
        CALLS.append(1)
        return x / 3

    @third.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    class Third(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(torch.ops.neurodyn_test.third(x))

    CALLS.clear()
    fallback(Third(), torch.rand(5, 2, 4), "calls the operator neurodyn_test.third")
    assert len(CALLS) == 2 * 5


LOCAL = threading.local()
LOCAL.n = 0


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_an_object_of_each_thread_counts_each_step() -> None:
    def count(net: Impure) -> None:
        LOCAL.n += 1
        LOCAL.seen = [*getattr(LOCAL, "seen", []), LOCAL.n]

    nd.unroll(Impure(count), torch.rand(STEPS, 2, 4))
    assert LOCAL.n == STEPS
    assert LOCAL.seen == [*range(1, STEPS + 1)]
