"""e-prop against the losses of NEST's regression test (testsuite, test_eprop_bsshslm_2020, of NEST 3.7 and later).

A recurrent network of 100 neurons learns a sum of four sines by gradient descent, one step after each second, with
fixed random feedback and a regulariser of firing rates. NEST gives two lists: its own losses, in double precision, and
those of the TensorFlow code of Bellec et al. (2020), in single precision.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from eprop_network import Network
from torch import Tensor

import neurodyn as nd

N, T, TARGET_RATE, RATE_COST, LEARNING_RATE = 100, 1000, 0.01, 300.0, 1e-4
LEAK = math.exp(-1 / 30)
OF_NEST = [101.964356999041, 103.466731126205, 103.340607074771, 103.680244037686, 104.412775748752]
OF_TENSORFLOW = [101.964363098144, 103.466735839843, 103.340606689453, 103.680244445800, 104.412780761718]


class Neuron(nd.Dynamics):
    r"""$v \gets \lambda v + (1 - \lambda) I - V_{th} z$ with the spike z of the step before, which has no gradient."""

    V_th = 0.03
    v = nd.state(0.0)
    z = nd.state(0.0)

    def step(self, I: Tensor, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v = LEAK * v + (1 - LEAK) * I - self.V_th * z.detach()
        slope = 0.3 / self.V_th * (1 - (v.detach() / self.V_th - 1).abs()).clamp(min=0)
        z = (v.detach() >= self.V_th).to(v.dtype) + slope * (v - v.detach())
        return z, v, z


def sines(random: np.random.RandomState) -> np.ndarray:
    periods = (1000, 500, 333, 200)
    amplitudes = random.uniform(0.5, 2.0, len(periods))
    phases = random.uniform(0.0, 2 * np.pi, len(periods))
    total = np.zeros(T)
    for A, phase, period in zip(amplitudes, phases, periods, strict=True):
        total += A * np.sin(np.linspace(phase, phase + 2 * np.pi * (T // period), T))
    total -= total[0]
    return total / np.abs(total).max()


def losses(iterations: int) -> list[float]:
    random = np.random.RandomState(1)

    def weight(*shape: int) -> Tensor:
        return torch.tensor((random.randn(*shape) / math.sqrt(N)).astype(np.float32), dtype=torch.float64)

    net = Network(N, Neuron(N), 1, LEAK)
    with torch.no_grad():
        net.enter.weight.copy_(weight(N, N).T)
        net.layer.feedback.weight.copy_(weight(N, N).T)
        net.out.weight.copy_(weight(N, 1).T)
    feedback = weight(N, 1).T
    xs = torch.tensor(random.rand(T, N) < 0.05, dtype=torch.float64)
    xs[0] = 0
    targets = torch.tensor(sines(random))
    learner = nd.online.EProp(net, {"out": feedback})
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE)
    found = []
    for i in range(iterations):
        with torch.no_grad():  # the regulariser needs the rates of the whole run
            ys, spikes = nd.unroll(net, xs, compile=False)
        found.append(0.5 * (ys[:, 0] - targets).square().sum().item())
        if i == iterations - 1:
            break
        pressure = RATE_COST * (spikes.mean(0) - TARGET_RATE) / T

        def loss(outputs: tuple[Tensor, Tensor], t: int, pressure: Tensor = pressure) -> Tensor:
            y, z = outputs
            return 0.5 * (y - targets[t]).square().sum() + (pressure * z).sum()

        optimizer.zero_grad()
        nd.online.unroll(learner, xs, loss)
        optimizer.step()
    return found


@pytest.mark.parametrize("iterations", [1, pytest.param(5, marks=pytest.mark.long)])
def test_the_losses_of_nest(iterations):
    found = losses(iterations)
    np.testing.assert_allclose(found, OF_NEST[:iterations], rtol=1e-11)
    np.testing.assert_allclose(found, OF_TENSORFLOW[:iterations], rtol=1e-7)
