"""Fluctuation-driven weights: the potentials, rates and gradients that they promise, and a deep network that learns."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import data
from neurodyn import units as u

TAU = 5.0
DECAY = math.exp(-1 / TAU)
GAIN = 1 / (1 - DECAY)  # one unit of input for a step moves V by 1 mV


def lif(size: int | tuple[int, ...], **values: object) -> nd.LIF:
    return nd.LIF(size, **({"tau": TAU * u.ms, "R": GAIN * u.Gohm} | values))


def stack(depth: int = 10, width: int = 128) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, width), lif(width)]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), lif(width)]
    return nn.Sequential(*layers, nn.Linear(width, 10), lif(10))


def digits(part: int = 0) -> tuple[Tensor, Tensor]:
    images = data.load("digits")[part]
    x = images.x[:, :8, :8].flatten(1)
    return (x / x.max()).to(torch.get_default_dtype()), images.y


def membrane(I: Tensor) -> Tensor:
    """U of such a neuron that does not fire, for the current I of each step."""
    U, seen = torch.zeros_like(I[0]), []
    for row in I:
        U = DECAY * U + row  # (1 - DECAY) R is 1
        seen.append(U)
    return torch.stack(seen)


def run(net: nn.Module, xs: Tensor) -> tuple[Tensor, nd.Recording, list[str]]:
    names = [name for name, module in net.named_modules() if isinstance(module, nd.LIF)]
    ys, recording = nd.unroll(net, xs, record=names, compile=False)
    return ys, recording, names


@pytest.mark.parametrize("xi", [0.5, 1.0, 2.0])
def test_the_potential_of_each_layer_is_as_far_from_the_threshold_as_asked(xi: float):
    net, xs = stack(), digits()[0][:64].expand(25, -1, -1)
    found = nd.init.fluctuation_driven_(net, xs, xi=xi)
    _, recording, names = run(net, xs)
    inputs = [xs, *(recording[name].values for name in names)]
    for x, linear in zip(inputs, net[::2], strict=False):
        U = membrane(linear(x).detach())
        assert 1 / U.square().mean().sqrt() == pytest.approx(xi, rel=0.02)
        assert abs(U.mean()) < 0.2 * U.std()
    assert list(found) == [str(i) for i in range(0, 22, 2)]
    assert found["4"] == pytest.approx(net[4].weight.std().item(), rel=1e-3)
    assert not any(linear.bias.any() for linear in net[::2])


def rates_and_gradients(net: nn.Module, xs: Tensor, labels: Tensor) -> tuple[list[float], list[float]]:
    ys, recording, names = run(net, xs)
    F.cross_entropy(ys.sum(0), labels).backward()
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    return [recording[name].values.mean().item() for name in names], [p.grad.norm().item() for p in weights]


def convolutions() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), lif((8, 8, 8))]
    for _ in range(4):
        layers += [nn.Conv2d(8, 8, 3, padding=1), lif((8, 8, 8))]
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(1), nn.Linear(128, 10), lif(10))


def recurrent() -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (64, 100, 100, 100):
        layers += [nn.Linear(size, 100), nd.Recurrent(lif(100), nn.Linear(100, 100))]
    return nn.Sequential(*layers, nn.Linear(100, 10), lif(10))


@pytest.mark.parametrize("build", [stack, convolutions, recurrent])
@pytest.mark.parametrize("seed", [0, 1])
def test_deep_networks_spike_and_have_gradients_everywhere(build, seed: int):
    torch.manual_seed(seed)
    net, (images, labels) = build(), digits()
    nd.init.fluctuation_driven_(net, images[:64].expand(25, -1, -1))
    rates, norms = rates_and_gradients(net, images[64:192].expand(25, -1, -1), labels[64:192])  # other images
    assert 0.02 < min(rates) < max(rates) < 0.3
    assert max(norms) < 10 * min(norms)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_feedback_makes_its_part_of_the_variance(share: float):
    torch.manual_seed(0)
    net, xs = nn.Sequential(nn.Linear(64, 400), nd.Recurrent(lif(400), nn.Linear(400, 400))), torch.randn(100, 8, 64)
    nd.init.fluctuation_driven_(net, xs, xi=1.0, recurrent=share)
    spikes = run(net, xs)[0]
    before = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])
    fed, forward = membrane(net[1].feedback(before)).detach(), membrane(net[0](xs)).detach()
    assert forward.var().item() == pytest.approx(1 - share, rel=0.03)
    # Rates in the network differ a little from those without feedback, with which the weights were fitted.
    assert fed.var().item() == pytest.approx(share, rel=0.3)
    assert (fed + forward).var().item() == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("rate", [20, 200])
@pytest.mark.parametrize("xi", [0.5, 1.5])
def test_from_a_rate_the_first_layer_follows_the_equation(rate: float, xi: float):
    net = stack(1, width=4000)
    nd.init.fluctuation_driven_(net, rate=rate * u.Hz, xi=xi)
    p = rate * 1e-3
    variance = p * (1 - p) * GAIN**2 * (1 - DECAY) / (1 + DECAY) + p**2 * GAIN**2
    assert net[0].weight.std().item() == pytest.approx(1 / xi / math.sqrt(64 * variance), rel=0.04)
    U = membrane(net[0]((torch.rand(500, 64) < p).double()).detach())[100:]
    assert U.std().item() == pytest.approx(1 / xi, rel=0.05)


@pytest.mark.parametrize(("rate", "xi"), [(20, 0.5), (50, 0.5), (200, 0.5), (50, 1.0)])
def test_from_a_rate_ten_layers_spike(rate: float, xi: float):
    torch.manual_seed(0)
    net = stack()
    nd.init.fluctuation_driven_(net, rate=rate * u.Hz, xi=xi)
    xs = (torch.rand(200, 16, 64) < rate * 1e-3).double()
    rates, norms = rates_and_gradients(net, xs, torch.randint(10, (16,)))
    assert 0.02 < min(rates) < max(rates) < 0.3
    assert min(norms) > 0


def test_from_a_rate_large_convolutions_spike():
    torch.manual_seed(0)
    size = (32, 12, 12)  # more neurons than those that stand for the inputs of the next layer
    layers = [nn.Conv2d(2, 32, 3, padding=1), lif(size), nn.Conv2d(32, 32, 3, padding=1), lif(size)]
    net = nn.Sequential(*layers, nn.Conv2d(32, 32, 3, padding=1), lif(size))
    nd.init.fluctuation_driven_(net, rate=50 * u.Hz)
    _, recording, names = run(net, (torch.rand(100, 4, 2, 12, 12) < 0.05).double())
    rates = [recording[name].values.mean().item() for name in names]
    assert 0.02 < min(rates) < max(rates) < 0.3


@pytest.mark.parametrize("seed", range(6))
def test_a_few_filters_whose_weights_happen_to_have_a_mean(seed: int):
    """With a mean below zero no factor brings mean and deviation to the threshold, and weights grew without end."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), lif((4, 8, 8)), nn.Conv2d(4, 4, 3), lif((4, 6, 6)))
    nd.init.fluctuation_driven_(net, (torch.rand(50, 4, 2, 10, 10) < 0.05).double())
    assert all(net[i].weight.std() < 20 / net[i].weight[0].numel() ** 0.5 for i in (0, 2))


def test_from_a_rate_a_recurrent_layer_spikes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 300), nd.Recurrent(lif(300), nn.Linear(300, 300)))
    found = nd.init.fluctuation_driven_(net, rate=50 * u.Hz, xi=1.0, recurrent=0.5)
    assert list(found) == ["0", "1.feedback"]
    spikes = run(net, (torch.rand(200, 16, 64) < 0.05).double())[0]
    fed = membrane(net[1].feedback(spikes)).detach()
    assert 0.02 < spikes.mean() < 0.3
    assert fed.var().item() == pytest.approx(0.5, rel=0.3)


def test_connections_keep_their_pattern():
    torch.manual_seed(0)
    projection = nd.Projection(
        nd.FixedProb(40, 30, 0.5, weight=1 * u.nS), synapse=nd.Expon(30), output=nd.COBA(E=3 * u.mV)
    )
    net = nn.Sequential(nn.Linear(10, 40), nd.LIF(40), projection)
    net.append(nd.LIF(30, tau=nd.init.Uniform(5 * u.ms, 9 * u.ms), R=1 * u.Gohm))
    xs = torch.randn(50, 8, 10)
    nd.init.fluctuation_driven_(net, xs)
    weight, spikes = projection.connection.weight, run(net, xs)[1]["1"].values
    conductance = nd.unroll(nn.Sequential(projection.connection, projection.synapse), spikes, compile=False)
    V = [torch.zeros(8, 30)]
    for g in conductance:
        V.append(nd.exp_euler(lambda v, g=g: (g * (3 - v) - v) / net[3].tau, V[-1], dt=1.0))
    U = torch.stack(V[1:]).detach()
    assert (1 - U.mean()) / U.std() == pytest.approx(0.5, rel=0.03)
    assert weight.dim() == 0
    assert weight > 0
    assert weight != 1


def potentials(net: nn.Sequential, xs: Tensor) -> dict[str, Tensor]:
    """U of each layer that does not fire, for the spikes of those before, which do."""
    found = {}
    for k, module in enumerate(net):
        if isinstance(module, nd.LIF):
            module.fire = torch.zeros_like
            found[str(k)] = nd.unroll(net[: k + 1], xs, record=f"{k}.V", compile=False)[1][f"{k}.V"].values.detach()
            del module.fire
    return found


def spikes_at(rate: float, *shape: int) -> Tensor:
    return (torch.rand(*shape) < rate * 1e-3).double()


@pytest.mark.parametrize("xi", [0.5, 1.5])
@pytest.mark.parametrize(
    "between",
    [
        lambda: [nd.Expon(800, tau=8 * u.ms)],
        lambda: [nd.Expon(800, tau=8 * u.ms, exact=True)],
        lambda: [nd.Alpha(800, tau=4 * u.ms), nd.CUBA(scale=3 * u.mV)],
        lambda: [nd.Delay(800, 40 * u.ms), nn.Dropout(0.0)],
        lambda: [nn.BatchNorm1d(800)],
        lambda: [nn.BatchNorm1d(800), nd.DualExpon(800, tau_rise=2 * u.ms, tau_decay=9 * u.ms)],
    ],
)
def test_from_a_rate_with_synapses_and_norms(between, xi: float):
    """Mean and deviation of the potential as asked, measured with such spikes; the variance also by hand."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 800), *between(), lif(800))
    nd.init.fluctuation_driven_(net, rate=30 * u.Hz, xi=xi)
    (U,) = potentials(net, spikes_at(30, 400, 8, 64)).values()
    U = U[150:]
    assert U.std().item() == pytest.approx(1 / xi, rel=0.08)
    assert abs(U.mean().item()) < 0.1 / xi


def test_from_a_rate_a_synapse_follows_the_equation():
    """Sums over the potential that one spike makes, for Expon and LIF in composition."""
    torch.manual_seed(0)
    net, p, xi = nn.Sequential(nn.Linear(64, 4000), nd.Expon(4000, tau=8 * u.ms), lif(4000)), 0.03, 0.8
    nd.init.fluctuation_driven_(net, rate=30 * u.Hz, xi=xi)
    epsilon = membrane(torch.exp(-torch.arange(200.0) / 8).double())
    variance = 64 * (p * (1 - p) * epsilon.square().sum() + p**2 * epsilon.sum() ** 2)
    assert net[0].weight.std().item() == pytest.approx(1 / xi / math.sqrt(variance), rel=0.05)


def with_norms(depth: int = 4) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(depth):
        size = (16, 10, 10)
        layers += [nn.Conv2d(16 if k else 2, 16, 3, padding=1), nn.BatchNorm2d(16), lif(size)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("given", ["xs", "rate"])
def test_norms_are_scaled(given: str):
    torch.manual_seed(0)
    net, xs = with_norms(), spikes_at(50, 100, 4, 2, 10, 10)
    running = net[1].running_var.clone()
    found = nd.init.fluctuation_driven_(net.eval(), **({"xs": xs} if given == "xs" else {"rate": 50 * u.Hz}), xi=1.0)
    assert torch.equal(net[1].running_var, running)
    assert not net[1].training
    assert list(found) == [f"{k}" for k in range(12) if k % 3 < 2]
    assert not any(net[k].bias.any() for k in range(12) if k % 3 < 2)
    for U in potentials(net.train(), xs).values():
        assert U[20:].std().item() == pytest.approx(1, rel=0.05 if given == "xs" else 0.25)
        assert abs(U[20:].mean().item()) < 0.1
    _, recording, names = run(net, xs)
    assert all(0.02 < recording[name].values.mean() < 0.3 for name in names)


def test_layer_norm_is_scaled_by_measurement():
    torch.manual_seed(0)
    net, xs = nn.Sequential(nn.Linear(64, 200), nn.LayerNorm(200), lif(200)), torch.randn(60, 8, 64)
    nd.init.fluctuation_driven_(net, xs, xi=0.7)
    (U,) = potentials(net, xs).values()
    assert 1 / U.square().mean().sqrt() == pytest.approx(0.7, rel=0.02)


def test_the_generator_decides():
    made = []
    for seed in (1, 1, 2):
        net = stack(2, 20)
        nd.init.fluctuation_driven_(net, rate=30 * u.Hz, generator=torch.Generator().manual_seed(seed))
        made.append(net[2].weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("net", "values", "error", "words"),
    [
        (stack(1), {}, TypeError, "give either xs, typical inputs, or rate"),
        (stack(1), {"rate": 20.0}, TypeError, "rate needs a unit"),
        (stack(1), {"rate": 2 * u.kHz}, ValueError, "one spike per step, got 2 per step"),
        (stack(1), {"rate": 20 * u.Hz, "xi": 0.0}, ValueError, "xi must be positive"),
        (stack(1), {"rate": 20 * u.Hz, "recurrent": 1.0}, ValueError, "from 0 to below 1, got 1.0"),
        (stack(1), {"xs": torch.zeros(5, 2, 64)}, ValueError, "look whether its inputs are silent"),
        (
            nn.Sequential(nn.Linear(3, 3), nd.Expon(3)),
            {"rate": 20 * u.Hz},
            ValueError,
            "Sequential has no spiking layer",
        ),
        (nd.LIF(3), {"rate": 20 * u.Hz}, ValueError, "no weights of its own before it"),
        (nn.Sequential(nn.Linear(3, 3), nd.AdEx(3)), {"rate": 20 * u.Hz}, TypeError, "'1' is AdEx(3), whose potential"),
        (
            nn.Sequential(nn.Linear(3, 3), nd.LIF(3, V_rest=2 * u.mV)),
            {"rate": 20 * u.Hz},
            ValueError,
            "'1' rests 1 mV above its threshold",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nd.AMPA(3, dt=0.1 * u.ms), nd.LIF(3, dt=0.1 * u.ms)),
            {"rate": 20 * u.Hz},
            ValueError,
            "'1', AMPA, lies between the weights '0' and the neurons '2', so that the potential of '2' has to be",
        ),
        (
            nn.Sequential(nn.Conv1d(3, 3, 3), nd.LIF((3, 8)), nn.MaxPool1d(2), nn.Conv1d(3, 3, 3), nd.LIF((3, 2))),
            {"rate": 20 * u.Hz},
            ValueError,
            "'2', MaxPool1d, lies before the weights '3', so that the potential of '4' has to be measured: pass xs",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nd.LIF(3)),
            {"rate": 20 * u.Hz},
            ValueError,
            "'1', LayerNorm, lies between",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False), nd.LIF(3)),
            {"xs": torch.randn(9, 4, 3)},
            ValueError,
            "'1', BatchNorm1d, sets the scale of the current of '2' and has no weight that could change it; build it "
            "with affine=True",
        ),
        (
            nn.Sequential(nd.AllToAll(3, 3), nd.LIF(3)),
            {"rate": 20 * u.Hz},
            ValueError,
            "the weights of '0', a AllToAll, are not drawn anew, so that the potential has to be measured: pass xs",
        ),
        (
            nn.Sequential(nn.Linear(3, 3), nd.Recurrent(nd.LIF(3), nn.Identity())),
            {"rate": 20 * u.Hz},
            ValueError,
            "the feedback of '1' must have one module with weights",
        ),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nd.LIF(3)),
            {"rate": 20 * u.Hz},
            ValueError,
            "the weight of '0' is computed from others",
        ),
    ],
)
def test_errors(net: nn.Module, values: dict, error: type[Exception], words: str):
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(error) as raised:
        nd.init.fluctuation_driven_(net, **values)
    assert words in str(raised.value)
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_ten_layers_learn():
    """After three epochs torch's own weights are near chance (0.19)."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    net, (images, labels), (others, answers) = stack(), digits(), digits(1)
    nd.init.fluctuation_driven_(net, images[:64].expand(25, -1, -1), xi=0.5)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(3):
        for index in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(nd.unroll(net, images[index].expand(25, -1, -1)).sum(0), labels[index]).backward()
            optimizer.step()
    with torch.no_grad():
        found = nd.unroll(net, others.expand(25, -1, -1)).sum(0).argmax(1)
    assert (found == answers).double().mean() > 0.7
