"""e-prop against losses of a classification in NEST's regression test (test_eprop_bsshslm_2020, of NEST 3.7 and later).

Evidence accumulation: seven cues, left or right, and after a second of noise the network says of which there were more.
50 LIF and 50 adaptive neurons learn by Adam, one step after each of five sequences, with fixed random feedback and a
regulariser of firing rates. The losses are those of the TensorFlow code of Bellec et al. (2020), in single precision,
which NEST, in double precision, reproduces to 1e-6; NEST's test lists those too.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from eprop_network import Network
from torch import Tensor

import neurodyn as nd

IN, N, OUT = 40, 100, 2
CUES, CUE, GAP, NOISE, RECALL = 7, 100, 50, 1050, 150
T = CUES * (CUE + GAP) + NOISE + RECALL
V_TH, LEAK, FADE = 0.6, math.exp(-1 / 20), math.exp(-1 / 2000)
TARGET_RATE, RATE_COST, LEARNING_RATE = 0.01, 300.0, 5e-3
OF_TENSORFLOW = [0.741152524948, 0.740388214588, 0.665785133838, 0.663644134998, 0.729429066181]
OF_NEST = [0.741152550006, 0.740388187700, 0.665785233177, 0.663644193322, 0.729428962844]


class Neuron(nd.Dynamics):
    r"""$v \gets \lambda v + I - V_{th} z$ with the spike z before, which has no gradient here; no spike for 4 ms after.

    The threshold is $V_{th} + \beta a$ with $a \gets \rho a + z$, where $\beta = 0$ for the first half.
    """

    v = nd.state(0.0)
    z = nd.state(0.0)
    a = nd.state(0.0)
    wait = nd.state(0.0)

    def step(self, I: Tensor, v: Tensor, z: Tensor, a: Tensor, wait: Tensor) -> tuple[Tensor, ...]:
        v = LEAK * v + I - V_TH * z.detach()
        excess = v - (1.7 * (1 - FADE) / (1 - LEAK) * (torch.arange(N) >= N // 2)) * a - V_TH
        ready, at = (wait == 0).to(v.dtype), excess.detach()
        slope = ready * 0.3 / V_TH * (1 - at.abs() / V_TH).clamp(min=0)
        z = ready * (at >= 0) + slope * (excess - at)
        return z, v, z, FADE * a + z, (wait + 5 * z.detach() - 1).clamp(0, 5)


def sequence(random: np.random.RandomState) -> tuple[Tensor, int]:
    """Spikes (T, inputs) of a left, a right, a recall and a noise group of ten, and the answer."""
    choices = np.array([0.3, 0.7], dtype=np.float32)
    index = random.choice([0, 1], 1)[0]
    cues = random.choice([0, 1], CUES, p=np.array([choices[index], choices[1 - index]]))
    chance = np.zeros((T, IN))
    for i, cue in enumerate(cues):
        start = i * (CUE + GAP) + GAP
        chance[start : start + CUE, 10 * cue : 10 * (cue + 1)] = 0.04
    chance[-RECALL:, 20:30] = 0.04
    chance[:, 30:] = 0.01
    spikes = chance > random.rand(chance.size).reshape(chance.shape)
    spikes[0] = False
    return torch.tensor(spikes, dtype=torch.float64), int(cues.sum() > CUES // 2)


def losses(iterations: int) -> list[float]:
    random = np.random.RandomState(1)

    def weight(values: np.ndarray) -> Tensor:
        return torch.tensor(values.astype(np.float32), dtype=torch.float64)

    limit = math.sqrt(3 / ((N + OUT) / 2))
    net = Network(IN, Neuron(N), OUT, LEAK)
    with torch.no_grad():
        net.enter.weight.copy_(weight(random.randn(IN, N).T / math.sqrt(IN)))
        net.layer.feedback.weight.copy_(weight(random.randn(N, N).T / math.sqrt(N)))
        net.out.weight.copy_(weight(random.uniform(-limit, limit, (N, OUT)).T))
    learner = nd.online.EProp(net, {"out": weight(random.randn(N, OUT).T)})
    optimizer, found = torch.optim.Adam(net.parameters(), LEARNING_RATE), []
    for i in range(iterations):
        xs, answer = sequence(random)
        wanted = torch.tensor(answer)
        with torch.no_grad():  # the regulariser needs the rates of the whole run
            ys, spikes = nd.unroll(net, xs, compile=False)
        found.append(F.cross_entropy(ys[-RECALL:], wanted.expand(RECALL)).item())
        if i == iterations - 1:
            break
        pressure = RATE_COST * (spikes.mean(0) - TARGET_RATE) / T

        def loss(
            outputs: tuple[Tensor, Tensor], t: int, pressure: Tensor = pressure, wanted: Tensor = wanted
        ) -> Tensor:
            y, z = outputs
            total = (pressure * z).sum()
            return (total + F.cross_entropy(y, wanted) if t >= T - RECALL else total) / RECALL

        optimizer.zero_grad()
        nd.online.unroll(learner, xs, loss)
        # The epsilon of NEST is beside the root of a mean that is not corrected for its start.
        optimizer.param_groups[0]["eps"] = 1e-8 / math.sqrt(1 - 0.999 ** (i + 1))
        optimizer.step()
    return found


@pytest.mark.parametrize("iterations", [1, pytest.param(5, marks=pytest.mark.long)])
def test_the_losses_of_nest(iterations: int) -> None:
    found = losses(iterations)
    np.testing.assert_allclose(found, OF_TENSORFLOW[:iterations], rtol=1e-6)
    np.testing.assert_allclose(found, OF_NEST[:iterations], rtol=1e-11)
