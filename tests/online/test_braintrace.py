"""D-RTRL and ES-D-RTRL against braintrace, see reference/make_braintrace.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd

RECORDED = Path(__file__).parents[1] / "reference" / "braintrace.npz"


class Adaptive(nd.Dynamics):
    V = nd.state(0.0)
    a = nd.state(0.0)

    def step(self, I: Tensor, V: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        V = 0.8 * V + 0.2 * I - 0.3 * a
        h = torch.tanh(V)
        return h, V, 0.9 * a + 0.1 * h


@pytest.mark.parametrize(
    ("name", "rule"), [("d_rtrl", nd.online.DRTRL), ("es_d_rtrl", lambda net: nd.online.ESDRTRL(net, decay=0.9))]
)
def test_the_gradients_are_those_of_braintrace(name, rule):
    with np.load(RECORDED) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    enter, back, out = nn.Linear(3, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, 2)
    parameters = {"W": enter.weight, "b": enter.bias, "R": back.weight, "O": out.weight, "c": out.bias}
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(data[f"weight_{key}"])
    net = nn.Sequential(enter, nd.Recurrent(Adaptive(5), back), out)
    nd.online.unroll(rule(net), data["xs"], lambda y, t: (y * data["w"][t]).sum())
    # Of the readout it gives zeros. For ES-D-RTRL it smooths the bias like a weight; ours has its exact trace.
    data["es_d_rtrl_b"] = data["d_rtrl_b"]
    for key in "WbR":
        parameter = parameters[key]
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, data[f"{name}_{key}"], rtol=1e-10, atol=1e-12, msg=key)
