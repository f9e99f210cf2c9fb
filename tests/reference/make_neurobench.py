"""Records tests/reference/neurobench.json: synaptic operations of each layer, by NeuroBench 2.3.0 with snnTorch 1.0.0.

pip install neurobench==2.3.0 && python tests/reference/make_neurobench.py
"""

import json
from pathlib import Path

import snntorch as snn
import torch
from neurobench.metrics.workload import SynapticOperations
from neurobench.models import SNNTorchModel
from neurobench_networks import BETA, BIASES, INPUTS, KERNEL, LAST, LINEAR
from torch import nn


def leaky(last=False):
    return snn.Leaky(beta=BETA, reset_mechanism="zero", init_hidden=True, output=last)


def linear(weight, bias=None):
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = torch.as_tensor(weight).float()
    if bias is not None:
        made.bias.data = torch.as_tensor(bias).float()
    return made


def network(name):
    if name == "images":
        convolution = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        convolution.weight.data = torch.as_tensor(KERNEL).float()
        return nn.Sequential(convolution, leaky(), nn.Flatten(), linear(LAST), leaky(True))
    rows = [(linear(w, b), leaky(i == 2)) for i, (w, b) in enumerate(zip(LINEAR, BIASES, strict=True))]
    return nn.Sequential(*(layer for row in rows for layer in row))


found = {}
for name, xs in INPUTS.items():
    model = SNNTorchModel(network(name))
    model.register_hooks()
    data = torch.as_tensor(xs).float().transpose(0, 1)  # batch, time, ...
    with torch.no_grad():
        preds = model(data)
        hooks, found[name] = model.connection_hooks, []
        for hook in hooks:
            model.connection_hooks, metric = [hook], SynapticOperations()
            found[name].append(metric(model, preds, (data, None)))
Path(__file__).with_name("neurobench.json").write_text(json.dumps(found, indent=1) + "\n")
print(found)
