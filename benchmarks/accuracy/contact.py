"""Does a layer learn as it comes? The same network, optimizer and data with the defaults of each library.

8 x 8 digits, each image shown for 25 steps; Linear - neuron - Linear - neuron, the same with two hidden layers, and a
convolution; cross entropy of the output's spike counts; Adam 1e-3, batch 64. Test accuracy after 1, 3 and 10 epochs:
nothing is chosen, and nothing held out. snnTorch needs a beta: 0.9, that of its tutorials. SpikingJelly as it comes. In
neurodyn `nd.init.fluctuation_driven_`, with its defaults, draws the weights of the net with ten hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import data

from ..timing import Options

T, BATCH, SEEDS, EPOCHS = 25, 64, (0, 1, 2), (1, 3, 10)
KINDS = ("one hidden layer", "two hidden layers", "a convolution", "ten hidden layers")
Neuron = Callable[[Any], nn.Module]
Run = Callable[[nn.Sequential, Tensor], Tensor]


def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels from 0 to 1 and classes, of the training and of the test set."""
    (x, y), (others, answers) = ((part.x[:, :8, :8].flatten(1), part.y) for part in data.load("digits"))
    return x / x.max(), y, others / others.max(), answers


def build(neuron: Neuron, kind: str) -> nn.Sequential:
    """One of the networks."""
    if kind == "a convolution":
        layers = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), neuron((16, 8, 8)), nn.AvgPool2d(2)
        return nn.Sequential(*layers, nn.Flatten(1), nn.Linear(256, 10), neuron(10))
    depth = {"one": 1, "two": 2, "ten": 10}[kind.split()[0]]
    sizes = [64, *[128] * depth, 10]
    return nn.Sequential(*(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), neuron(b))))


def neurodyn(kind: str) -> tuple[nn.Sequential, Run]:
    net = build(nd.LIF, kind)
    if kind.startswith("ten"):
        nd.init.fluctuation_driven_(net, images()[0][:64].expand(T, -1, -1))
    return net, lambda net, xs: nd.unroll(net, xs, progress=False)


def snntorch(kind: str) -> tuple[nn.Sequential, Run]:
    import snntorch

    def run(net: nn.Sequential, xs: Tensor) -> Tensor:
        potentials, outs = {}, []
        for x in xs:
            for layer in net:
                if isinstance(layer, snntorch.Leaky):
                    x, potentials[layer] = layer(x, potentials.get(layer, layer.init_leaky()))
                else:
                    x = layer(x)
            outs.append(x)
        return torch.stack(outs)

    return build(lambda _: snntorch.Leaky(beta=0.9), kind), run


def spikingjelly(kind: str) -> tuple[nn.Sequential, Run]:
    from spikingjelly.activation_based import functional, neuron

    def run(net: nn.Sequential, xs: Tensor) -> Tensor:
        functional.reset_net(net)
        return torch.stack([net(x) for x in xs])

    return build(lambda _: neuron.LIFNode(), kind), run


def loss_of(net: nn.Sequential, run: Run, x: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of the output's spike counts."""
    return F.cross_entropy(run(net, x.expand(T, -1, -1)).sum(0), y)


def train(net: nn.Sequential, run: Run, epochs: tuple[int, ...] = EPOCHS) -> list[float]:
    """Accuracies in percent after these epochs."""
    x, y, others, answers = images()
    optimizer, found = torch.optim.Adam(net.parameters(), 1e-3), []
    for epoch in range(1, max(epochs) + 1):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss_of(net, run, x[index], y[index]).backward()
            optimizer.step()
        if epoch in epochs:
            with torch.no_grad():
                right = run(net, others.expand(T, -1, -1)).sum(0).argmax(1) == answers
            found.append(100 * right.float().mean().item())
    return found


def start(net: nn.Sequential, run: Run) -> tuple[list[float], list[float]]:
    """Of each layer before training: spikes per step, and the norm of the gradient of the weights in front."""
    x, y, *_ = images()
    loss_of(net, run, x[:256], y[:256]).backward()
    norms = [layer.weight.grad.norm().item() for layer in net if hasattr(layer, "weight")]  # type: ignore[union-attr]
    net.zero_grad()
    names = [name for name, layer in net.named_modules() if isinstance(layer, nd.LIF)]
    if not names:
        return [], norms
    with torch.no_grad():
        _, recording = nd.unroll(net, x[:256].expand(T, -1, -1), record=names, compile=False)
    return [recording[name].values.mean().item() for name in names], norms


def measure(kind: str, library: Callable[[str], tuple[nn.Sequential, Run]], toy: bool) -> dict[str, Any]:
    """Accuracies of each seed, and rates and gradient norms of its layers before training."""
    found, starts = [], []
    for seed in SEEDS[:1] if toy else SEEDS:
        torch.manual_seed(seed)
        net, call = library(kind)
        starts.append(start(net, call))
        found.append(train(net, call, (1,) if toy else EPOCHS))
    rates = [rate for seed in starts for rate in seed[0]]
    factor = max(max(norms) / min(norms) if min(norms) else float("inf") for _, norms in starts)
    name = library.__name__
    return {"kind": kind, "library": name, "accuracy": found, "rates": rates, "gradient norms within a factor": factor}


def run(options: Options) -> list[dict[str, Any]]:
    """All networks in all libraries that are there, printed and returned."""
    rows = []
    for kind in KINDS[:1] if options.toy else KINDS:
        print(f"{kind}: test accuracy after epochs {', '.join(map(str, EPOCHS))}, mean of {len(SEEDS)} seeds")
        for library in (neurodyn, snntorch, spikingjelly) if options.peers else (neurodyn,):
            try:
                rows.append(measure(kind, library, options.toy))
            except ImportError as error:
                print(f"  {library.__name__:14} not run: {error}", flush=True)
                continue
            row = rows[-1]
            means = " ".join(f"{mean:.1f}" for mean in torch.tensor(row["accuracy"]).mean(0).tolist())
            spikes = f"; rates {min(row['rates']):.3f} to {max(row['rates']):.3f}" if row["rates"] else ""
            factor = row["gradient norms within a factor"]
            print(f"  {library.__name__:14} {means}; gradient norms within a factor {factor:.3g}{spikes}", flush=True)
    return rows
