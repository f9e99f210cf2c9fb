"""NIR: what is written comes back exactly, and files of other libraries give their traces."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.readouts.leaky import LeakySpike

REFERENCE = Path(__file__).parent / "reference" / "nir"


def normal(mean, std):
    return nd.init.Normal(mean, std)


def tau(mean: float = 10):
    return normal(mean * u.ms, 1 * u.ms)


class Skip(nn.Module):
    """Two paths that add up."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nd.LIF(5, tau=tau())
        self.a, self.b = nn.Linear(5, 4), nn.Linear(3, 4, bias=False)
        self.neuron = nd.LIF(4, reset="hard", V_th=normal(1 * u.mV, 0.1 * u.mV))

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.first(x))
        return self.neuron(self.a(y) + self.b(x))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nd.LIF((2, 4, 4), tau=tau(), reset="hard"),
        nn.AvgPool2d(2),
        nd.Expon((2, 2, 2)),
        nd.LIF((2, 2, 2)),
        nn.Flatten(),
        nn.Linear(8, 3, bias=False),
    )


def pieces(n: int) -> dict:
    return {
        "LIF": nd.LIF(n, tau=tau(), V_reset=normal(-1 * u.mV, 0.1 * u.mV), V_rest=0.3 * u.mV, learn=("tau", "V_th")),
        "LIF-hard": nd.LIF(n, reset="hard", surrogate=nd.surrogate.Arctan(alpha=3.0), V_initializer=0.2 * u.mV),
        "IF": nd.IF(n, tau=tau()),
        "PerfectIF": nd.nir.PerfectIF(n, R=normal(0.3 * u.Gohm / u.ms, 0.02 * u.Gohm / u.ms)),
        "LeakySpike": LeakySpike(n, tau=tau(4), reset="hard"),
        "Expon": nd.Expon(n, tau=tau()),
        "CubaLIF": nn.Sequential(nd.Expon(n, tau=tau(6)), nd.LIF(n, tau=tau(), learn="tau")),
        "LI": nd.nir.LI(n, tau=tau(), V_rest=1 * u.mV),
        "LeakyRateReadout": nd.LeakyRateReadout(n, 4, tau=tau()),
        "Delay": nd.Delay(n, torch.arange(n) * 2.0 * u.ms),
        "Delay-linear": nd.Delay(n, 2.3 * u.ms, interpolation="linear"),
        "OneToOne": nn.Sequential(nd.OneToOne(n), nd.LIF(n)),
        "SignedLinear": nn.Sequential(nd.SignedLinear(n, 4), nd.LIF(4)),
        "FixedProb": nn.Sequential(nd.FixedProb(n, 4, 0.5, weight=nd.init.Normal(1.0, 0.1)), nd.LIF(4)),
        "Recurrent": nd.Recurrent(nd.LIF(n, tau=tau()), nn.Linear(n, n)),
        "Recurrent-projection": nd.Recurrent(
            nd.LIF(n), nd.Projection(nn.Linear(n, n), delay=nd.Delay(n, 2 * u.ms), synapse=nd.Expon(n))
        ),
        "Projection": nn.Sequential(
            nd.Projection(nn.Linear(n, 4), synapse=nd.Expon(4, tau=tau()), output=nd.CUBA()), nd.LIF(4)
        ),
    }


NAMES = list(pieces(3))


def networks(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    with nd.default_dt(0.5 * u.ms):
        if name == "Skip":
            return Skip(), (3,)
        if name == "images":
            return images(), (1, 8, 8)
        return nn.Sequential(nn.Linear(3, 3), pieces(3)[name]), (3,)


def written(graph, path: Path):
    nir.write(path, graph)
    return path


def run(net: nn.Module, xs: Tensor) -> Tensor:
    return nd.unroll(net, xs, compile=False)


@pytest.mark.parametrize("name", [*NAMES, "Skip", "images"])
def test_round_trip_through_a_file(name: str, tmp_path) -> None:
    net, size = networks(name)
    xs = 20 * torch.rand(40, 2, *size)
    graph = nd.to_nir(net, input_size=size)
    back = nd.from_nir(written(graph, tmp_path / "net.nir"), dtype=torch.float64)
    wanted, found = run(net, xs), run(back, xs)
    assert wanted.abs().sum() > 0
    rounding = name in ("FixedProb", "SignedLinear", "Skip", "images")  # sums in another order
    assert torch.equal(found, wanted) or (rounding and (found - wanted).abs().max() < 1e-12)
    kept = {kind: [m for m in back.modules() if type(m) is kind] for kind in (nd.LIF, nd.IF, nd.Expon, nd.Delay)}
    for kind, ours in kept.items():
        for a, b in zip(ours, [m for m in net.modules() if type(m) is kind], strict=name != "Recurrent-projection"):
            assert (a.dt, repr(a)) == (0.5, repr(b))
            assert vars(a).get("reset") == vars(b).get("reset")
            assert vars(a).get("surrogate") == vars(b).get("surrogate")
            for key, value in b.named_parameters():
                assert torch.equal(dict(a.named_parameters())[key], value), key
            for key in b.params:
                assert torch.equal(getattr(a, key), getattr(b, key)), key


def test_it_compiles_and_trains() -> None:
    net, size = networks("Recurrent-projection")
    back = nd.from_nir(nd.to_nir(net), dtype=torch.float64)
    assert isinstance(back, nd.nir.Graph)
    xs = 20 * torch.rand(30, 2, *size)
    assert torch.equal(nd.unroll(back, xs), run(net, xs))


def neuron(kind: str = "LIF", n: int = 3) -> nir.NIRNode:
    """A neuron that no metadata describe, with values of its own for each element."""
    ones, spread = np.ones(n), np.linspace(0.9, 1.1, n)
    ends = {"v_leak": 0 * ones, "v_threshold": spread, "v_reset": 0 * ones}
    if kind == "CubaLIF":
        return nir.CubaLIF(tau_syn=5e-3 * spread, tau_mem=2e-2 * ones, r=2 * ones, w_in=spread, **ends)
    return nir.LIF(tau=2e-2 * spread, r=2 * ones, **ends)


def weights(n: int = 3, m: int | None = None) -> nir.Linear:
    return nir.Linear(0.4 + 0.5 * np.random.default_rng(n).standard_normal((n, m or n)))


def joined(nodes: dict[str, nir.NIRNode], *edges: str) -> nir.NIRGraph:
    """A graph from "a b c", a path through the nodes; "in" and "out" are made."""
    ends = {"in": nir.Input(np.array([3])), "out": nir.Output(np.array([3]))}
    pairs = [pair for path in edges for pair in itertools.pairwise(path.split())]
    return nir.NIRGraph(ends | nodes, list(dict.fromkeys(pairs)), type_check=False)


def inner(*names: str, loop: str = "") -> nir.NIRGraph:
    nodes = {name: neuron() if name == "lif" else weights() for name in names}
    return joined(nodes, f"in {' '.join(names)} out", loop)


LOOPS = {
    "a CubaLIF": lambda: joined({"x": neuron("CubaLIF"), "w": weights()}, "in x out", "x w x"),
    "a LIF": lambda: joined({"x": neuron(), "w": weights()}, "in x out", "x w x"),
    "onto itself": lambda: joined({"x": neuron()}, "in x out", "x x"),
    "a CubaLIF onto itself": lambda: joined({"x": neuron("CubaLIF")}, "in x out", "x x"),
    "E and I": lambda: joined(
        {"E": neuron("CubaLIF"), "I": neuron("CubaLIF", 2), "EI": weights(2, 3), "IE": weights(3, 2)},
        "in E out",
        "E EI I IE E",
    ),
    "E and I, each onto itself": lambda: joined(
        {"E": neuron(), "I": neuron(), "EI": weights(), "IE": weights(), "EE": weights(), "II": weights()},
        "in E out",
        "E EI I IE E EE E",
        "I II I",
        "in I out",
    ),
    "two loops on one neuron": lambda: joined(
        {"x": neuron(), "a": weights(), "b": weights(), "late": nir.Delay(np.full(3, 2e-3))},
        "in x out",
        "x a x b late x",
    ),
    "through several neurons": lambda: joined(
        {"x": neuron(), "a": weights(), "y": neuron("CubaLIF"), "b": weights(), "z": neuron(), "c": weights()},
        "in x a y b z c x",
        "y out",
    ),
    "without a neuron": lambda: joined(
        {"x": neuron(), "a": weights(), "b": nir.Scale(np.full(3, 0.5))}, "in a x out", "a b a"
    ),
    "in a graph inside": lambda: joined({"g": inner("w", "lif", loop="lif w"), "y": neuron()}, "in g y out"),
    "through a graph inside": lambda: joined(
        {"g": inner("w", "lif"), "x": neuron(), "v": weights()}, "in x g out", "g v x"
    ),
    "two graphs deep": lambda: joined(
        {"g": joined({"h": inner("lif", "w", loop="w lif")}, "in h out", "h h"), "x": neuron()}, "in g x out", "in x"
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_came_in_with_a_loop_goes_out_again(name: str, tmp_path) -> None:
    net = nd.from_nir(LOOPS[name](), dt=1 * u.ms)
    xs = 20 * torch.rand(40, 2, 3)
    wanted = run(net, xs)
    assert 0 < wanted.count_nonzero() < wanted.numel()
    for _ in range(3):
        net = nd.from_nir(written(nd.to_nir(net), tmp_path / "net.nir"))
        assert torch.equal(run(net, xs), wanted)


def test_a_neuron_onto_itself_gets_its_spike_in_the_next_step() -> None:
    net = nd.from_nir(LOOPS["onto itself"](), dt=1 * u.ms)
    alone, y, ys = nd.from_nir(joined({"x": neuron()}, "in x out"), dt=1 * u.ms), torch.zeros(3), []
    xs = 5 * torch.rand(40, 3)
    for x in xs:
        y = alone(x + y)
        ys.append(y)
    assert torch.equal(run(net, xs), torch.stack(ys))
    assert not torch.equal(run(net, xs), run(alone, xs))


@pytest.mark.parametrize("seed", range(12))
def test_any_graph_goes_out_again(seed: int, tmp_path) -> None:
    pick = random.Random(seed)
    nodes = {f"n{i}": pick.choice([neuron, weights, lambda: neuron("CubaLIF")])() for i in range(7)}
    ends = [f"in {name}" for name in nodes] + [f"{name} out" for name in nodes]
    edges = [f"{pick.choice(list(nodes))} {pick.choice(list(nodes))}" for _ in range(12)]
    net = nd.from_nir(joined(nodes, *pick.sample(ends[:7], 2), *ends[7:], *edges, *ends[:7]), dt=1 * u.ms)
    again = nd.from_nir(written(nd.to_nir(net), tmp_path / "net.nir"))
    xs = torch.rand(15, 3)
    assert torch.equal(run(net, xs), run(again, xs))


def test_a_loop_inside_a_larger_network() -> None:
    """In a chain, in a module that adds, and as `Recurrent` of a `Recurrent`."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.output = nd.from_nir(LOOPS["E and I"](), dt=1 * u.ms), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.input(x) + self.output(x)
            return y + y

    twice = nd.Recurrent(nd.Recurrent(nd.LIF(3, R=9 * u.Gohm), nn.Linear(3, 3)), nn.Linear(3, 3))
    own = nd.Recurrent(nd.LIF(3, R=9 * u.Gohm), nn.Identity())
    net = nn.Sequential(nn.Linear(3, 3), Beside(), nd.LIF(3, R=9 * u.Gohm), nn.Identity(), twice, own)
    for parameter in net.parameters():
        parameter.data.abs_().mul_(3)
    xs = 20 * torch.rand(40, 3)
    back = nd.from_nir(nd.to_nir(net))
    assert run(net, xs).sum() > 0
    assert (run(back, xs) - run(net, xs)).abs().max() < 1e-12


class Balanced(nn.Module):
    """E and I, written by hand: the spikes of I reach E after a delay."""

    def __init__(self, delay=1 * u.ms, **options):
        super().__init__()
        self.input, self.E, self.I = nn.Linear(4, 8), nd.LIF(8, reset="hard"), nd.LIF(2, reset="hard")
        self.from_E, self.from_I, self.out = nn.Linear(8, 2), nn.Linear(2, 8), nn.Linear(2, 8)
        self.delay = nd.Delay(2, delay, **options)
        for parameter in self.parameters():
            parameter.data.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        E = self.E(self.input(x) + self.from_I(self.delay.read()))
        self.delay(self.I(self.from_E(E)))
        return E


class Late(Balanced):
    """As above, and the delayed spikes are an output, too."""

    def forward(self, x: Tensor) -> Tensor:
        E = self.E(self.input(x) + self.from_I(self.delay.read()))
        return E + self.out(self.delay(self.I(self.from_E(E))))


@pytest.mark.parametrize("delay", [1 * u.ms, 4 * u.ms, torch.tensor([1.0, 3.0]) * u.ms])
@pytest.mark.parametrize("kind", [Balanced, Late])
def test_a_loop_of_ones_own_goes_out(kind: type[Balanced], delay, tmp_path) -> None:
    torch.manual_seed(0)
    net, xs = kind(delay), torch.randn(60, 3, 4)
    other = kind(9 * u.ms)
    for a, b in zip(other.parameters(), net.parameters(), strict=True):
        a.data.copy_(b.data)
    wanted = run(net, xs)
    assert (wanted - run(other, xs)).abs().sum() > 10  # the delay counts
    assert net.delay.read().shape == (3, 2)  # it has run: its states do not become constants
    for _ in range(2):
        again = nd.from_nir(written(nd.to_nir(net), tmp_path / "net.nir"))
        assert torch.equal(run(again, xs), wanted)
        net = again


class Unfed(Balanced):
    def forward(self, x: Tensor) -> Tensor:
        return self.E(self.input(x) + self.from_I(self.delay.read()))


class NeuronsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.neurons, self.weights, self.g = nd.LIF(3), nn.Linear(3, 3), nd.Expon(3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(self.g.read() + x)
        self.g(self.weights(spikes))
        return spikes


def test_dt_of_graphs_inside() -> None:
    def outer(*steps: float) -> nir.NIRGraph:
        made = {f"g{i}": nd.to_nir(nd.LIF(3, dt=step * u.ms)) for i, step in enumerate(steps)}
        return joined(made, f"in {' '.join(made)} out")

    assert nd.from_nir(outer(0.5, 0.5))[0].dt == 0.5
    with pytest.raises(nd.nir.NIRError, match=r"different time steps, \[0.5, 1.0\] ms"):
        nd.from_nir(outer(0.5, 1.0))
    with pytest.raises(nd.nir.NIRError, match="does not say its time step; pass dt="):
        nd.from_nir(LOOPS["without a neuron"]())
    layers = joined({"a": weights(), "b": weights()}, "in a out", "in b out")
    assert nd.from_nir(layers)(torch.ones(3)).shape == (3,)  # without time there is nothing to ask for


def test_float32_and_an_edited_node() -> None:
    lif = nd.LIF(5, tau=tau(), dtype=torch.float32)
    graph = nd.to_nir(lif)
    (name,) = (name for name, node in graph.nodes.items() if isinstance(node, nir.LIF))
    assert torch.equal(nd.from_nir(graph, dtype=torch.float32)[0].tau, lif.tau)
    graph.nodes[name].tau = 2 * graph.nodes[name].tau
    edited = nd.from_nir(graph, dtype=torch.float32)[0]
    assert torch.allclose(edited.tau, 2 * lif.tau)
    assert edited.reset == "hard"  # what is written for another node does not count


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = nd.LIF(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x * 2)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.linear(x))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 3), nd.LIFRef(3)), "LIFRef '1' cannot be represented"),
        (lambda: nd.Projection(nn.Linear(3, 3), plasticity=nd.STP(3)), "STP 'plasticity' cannot be represented"),
        (lambda: nd.Projection(nn.Linear(3, 3), output=nd.COBA(E=0 * u.mV)), "COBA 'output' cannot be"),
        (lambda: nd.Projection(nn.Linear(3, 3), output=nd.CUBA(scale=2 * u.mV)), "multiply the weights"),
        (lambda: nd.FixedProb(3, 3, 0.5, weight=1.0, delay=1 * u.ms), "delays of single synapses"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "ReLU '1' cannot be represented"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "Dropout '1' cannot be represented"),
        (Reads, "NIR knows modules and sums"),
        (Unfed, "^to_nir: Unfed cannot be .* reads delay and never gives it an input"),
        (lambda: Balanced(1.5 * u.ms, interpolation="linear"), "Delay 'delay' .* no whole number of steps"),
        (NeuronsFirst, r"reads a state before .*nd\.Delay, read by delay\.read\(\)"),
        (Twice, "it is also 'linear'"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="circular"), "pads with zeros"),
        (lambda: nn.Flatten(), "pass input_size="),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 3)), "do not fit"),
    ],
)
def test_what_cannot_be_written_is_named(build, words: str) -> None:
    with pytest.raises(nd.nir.NIRError, match=words):
        nd.to_nir(build())


def plain(node, size: int = 3, **edges) -> nir.NIRGraph:
    nodes = {"in": nir.Input({"input": np.array([size])}), "x": node, "out": nir.Output({"output": np.array([size])})}
    return nir.NIRGraph(nodes, [("in", "x"), ("x", "out")], type_check=False)


def lif(**values) -> nir.LIF:
    fields = {"tau": 0.02, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | values
    return nir.LIF(**{name: np.full(3, value) for name, value in fields.items()})


@pytest.mark.parametrize(
    ("graph", "options", "words"),
    [
        (lambda: plain(lif()), {}, r"does not say its time step; pass dt="),
        (lambda: plain(lif(r=-1.0)), {"dt": 1 * u.ms}, "the LIF 'x' cannot be read: .*R must be positive"),
        (lambda: plain(lif(tau=np.nan)), {"dt": 1 * u.ms}, "the LIF 'x' cannot be read: .*tau"),
        (lambda: plain(lif(tau=0.0005)), {"dt": 1 * u.ms, "euler": True}, "has no forward Euler step of dt=1 ms"),
        (lambda: plain(lif()), {"dt": 1 * u.ms, "reset": "late"}, "reset must be 'soft' or 'hard'"),
        (lambda: plain(nir.I(r=np.ones(3))), {"dt": 1 * u.ms}, "the I 'x' cannot be read: neurodyn has no model"),
        (lambda: plain(nir.Threshold(np.ones(3))), {"dt": 1 * u.ms}, "the Threshold 'x' cannot be read"),
        (lambda: plain(nir.Delay(np.full(3, 0.0015))), {"dt": 1 * u.ms}, "no multiple of dt=1 ms"),
        (lambda: nd.to_nir(nd.LIF(3)), {"dt": 2 * u.ms}, "made with dt=1 ms and dt=2 ms is given"),
    ],
)
def test_what_cannot_be_read_is_named(graph, options, words: str) -> None:
    with pytest.raises(nd.nir.NIRError, match=words):
        nd.from_nir(graph(), **options)


def test_what_is_no_graph(tmp_path) -> None:
    with pytest.raises(TypeError, match=r"wanted a nir\.NIRGraph"):
        nd.from_nir(nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match="no file"):
        nd.from_nir(tmp_path / "absent")


def test_damaged_files(tmp_path) -> None:
    whole = written(nd.to_nir(networks("CubaLIF")[0]), tmp_path / "net.nir").read_bytes()
    pick, path, refused = random.Random(0), tmp_path / "broken.nir", 0
    broken = [b"", b"\x80\x04.", *(whole[:n] for n in pick.sample(range(len(whole)), 20))]
    for position in pick.sample(range(len(whole)), 60):
        broken.append(whole[:position] + bytes([whole[position] ^ 1 << pick.randrange(8)]) + whole[position + 1 :])
    for content in broken:
        path.write_bytes(content)
        try:
            nd.from_nir(path)
        except nd.nir.NIRError:
            refused += 1
    assert refused > 20


FILES = sorted(path.stem for path in REFERENCE.glob("*.nir"))


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_libraries_give_their_traces(name: str) -> None:
    with np.load(REFERENCE / f"{name}.npz") as recorded:
        xs, ys = (torch.as_tensor(recorded[key]) for key in ("xs", "ys"))
        options = {"dt": float(recorded["dt_ms"]) * u.ms, "reset": str(recorded["reset"]), "euler": True}
    net = nd.from_nir(REFERENCE / f"{name}.nir", dtype=torch.float64, **options)
    found = run(net, xs.double())
    assert found.shape == ys.shape
    assert ys.abs().sum() > 20
    if bool(((ys == 0) | (ys == 1)).all()):
        assert torch.equal(found, ys.double())
    else:
        assert (found - ys).abs().max() < 1e-5


def test_there_are_files_of_both() -> None:
    assert {name.partition("_")[0] for name in FILES} == {"snntorch", "norse"}


SCALARS = {
    "LIF": (nir.LIF, {"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}),
    "IF": (nir.IF, {"r": 300.0, "v_threshold": 1.0, "v_reset": 0.0}),
    "LI": (nir.LI, {"tau": 0.01, "r": 1.0, "v_leak": 0.0}),
    "CubaLIF": (
        nir.CubaLIF,
        {"tau_syn": 5e-3, "tau_mem": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, "w_in": 1.0},
    ),
    "Scale": (nir.Scale, {"scale": 2.0}),
    "Delay": (nir.Delay, {"delay": 2e-3}),
}


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
@pytest.mark.parametrize("name", SCALARS)
def test_one_value_for_all_behind_a_linear(name: str, shape: tuple[int, ...], tmp_path) -> None:
    """The size is that of the layer before, and what came in goes out again."""
    kind, values = SCALARS[name]
    one, each = (kind(**{k: np.full(s, v) for k, v in values.items()}) for s in (shape, (4,)))
    graphs = [joined({"w": weights(4, 3), "x": node}, "in w x out") for node in (one, each)]
    found, wanted = (nd.from_nir(graph, dt=1 * u.ms) for graph in graphs)
    xs = 5 * torch.rand(30, 2, 3)
    assert run(wanted, xs).count_nonzero() > 0
    assert torch.equal(run(found, xs), run(wanted, xs))
    again = nd.from_nir(written(nd.to_nir(found), tmp_path / "net.nir"))
    assert torch.equal(run(again, xs), run(wanted, xs))
