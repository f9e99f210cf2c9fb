"""Programs written at random: the source of a network, of what its user does to it, and of the calls.

`program(seed)` gives the text of a module with ``build()``, some ``before_i(net)`` and ``CALLS``.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

#: One statement each: {v} is new, {a} and {b} exist and have the shape (*batch, N), {k} is a number.
PURE = """
{v} = {a} + {k} * {b}
{v} = {a} * {b}
{v} = torch.tanh({a}) - {k}
{v} = {a}.clamp(-{k}, 1.0)
{v} = torch.where({a} > {k}, {a}, {b})
{v} = torch.sigmoid({a}) * {b}
{v} = ({a} > {k}).to({a}.dtype) + {b}
{v} = {a} - {a}.mean(-1, keepdim=True)
{v} = {a} + {b}.amax(-1, keepdim=True)
{v} = {a} * {b}.mean()
{v} = {a} - {b}.reshape(-1, N).mean(0)
{v} = {a}.cumsum(-1) / N
{v} = {a}.flip(-1) + {b}
{v} = torch.roll({a}, 1, -1)
{v} = {a}.sort(-1).values
{v} = {a}.softmax(-1)
{v} = torch.cat([{a}[..., 1:], {b}[..., :1]], -1)
{v} = torch.stack([{a}, {b}]).amax(0)
{v} = F.pad({a}[..., :-1], (1, 0)) + {b}
{v} = {a} @ self.w1
{v} = F.linear({a}, self.w1, self.b1)
{v} = F.linear({a}, self.w2) + F.linear({b}, self.w1)
{v} = torch.einsum("...i,ij->...j", {a}, self.w2)
{v} = self.lin1({a}) + self.lin2({b})
{v} = self.lin2({a})
{v} = {a} + torch.linspace(0, 1, N, dtype={a}.dtype)
{v} = torch.full_like({a}, {k}) * {b}
{v} = {a} * torch.arange(N).to({a}.dtype)
{v} = {a} + {a}.new_tensor([{k}] * N)
{v} = torch.max({a}, torch.tensor({k}, dtype={a}.dtype))
{v} = ({a} * self.table).to({a}.dtype)
{v} = {a}.double().sin().to({a}.dtype)
{v} = {a}.detach() * {b}
with torch.no_grad():|    {v} = {a} * {b}
{v} = nd.surrogate.Sigmoid()({a} - {k})
{v} = Spike.apply({a} - {k})
{v}, _ = {a}.split([N - 1, 1], -1)|{v} = torch.cat([{v}, {b}[..., :1]], -1)
{v} = sum(part for part in ({a}, {b}, {k}))
for _ in range(2):|    {a} = 0.5 * {a} + {k}|{v} = {a}
{v} = {a} if {a}.dim() > 1 else {a} + {k}
{v} = checkpointed(lambda z: torch.tanh(z) * {k}, {a}) + {b}
"""

#: Writing in place to tensors of the step's own, and views of them.
IN_PLACE = """
{v} = {a}.clone()|{v}[..., 0] = {k}
{v} = {a}.clone()|{v}[..., 1:] += {b}[..., 1:]
{v} = {a} * 1.5|{v} *= {b}
{v} = {a} + 0.0|{v}.mul_({b}).add_({k})
{v} = torch.zeros_like({a})|{v} += {b}
{v} = torch.zeros(N, dtype={a}.dtype)|{v} += {a}.reshape(-1, N).mean(0)|{v} = {v} + {b}
{v} = {a}.clone()|{v}.view(-1)[0] = {k}
{v} = {a} * 2|old = {v}.view({v}.shape)|{v}[..., 1:] = {b}[..., :-1]|{v} = 0.5 * old + {a}
{v} = torch.zeros_like({a})|flat = {v}.view(-1)|{v}[..., 1:] = {a}[..., :-1] + {b}[..., 1:]|{v} = flat.view_as({a})
{v} = {a} + {b}|same = {v}|same += {k}
{v} = {a}.clone()|{v}[{b} > {k}] = 0.0
{v} = ({a} + 0.0).masked_fill_({b} > {k}, 0.1)
{v} = {a}.clone()|{v}.narrow(-1, 0, 2).fill_({k})
{v} = {a}.clone()|{v}.copy_({b} * {k})
{v} = torch.stack([{a}, {b}])|{v}[0].mul_({k})|{v} = {v}.sum(0)
{v} = torch.empty_like({a})|{v}[..., :2] = {a}[..., :2]|{v}[..., 2:] = {b}[..., 2:]
{v} = {a} * 1.5|{v} *= self.table
first, *rest = {a}.clone().unbind(-1)|first.detach().mul_({k})|{v} = torch.stack([first, *rest], -1)
{v} = {a}.expand_as({a}).clone()|{v}.transpose(0, -1)[0] += {k}
"""

#: Reading what may change between two calls.
READS = """
{v} = {a} * GAIN
{v} = {a} * OPTIONS["gain"] + {b}
{v} = {a} * SETTINGS.gain
{v} = {a} * math.tau2
{v} = closed({a}) + {b}
{v} = helper({a}, {b})
{v} = partial_helper({a}) - {b}
{v} = {a} * self.beta
{v} = {a} * self.gain + {b}
{v} = {a} * self.options.gain
{v} = {a} * self.settings["gain"]
{v} = {a} * self.inner.gain
{v} = {a} * self.double_gain
{v} = {a} + {b} if self.flag else {a} - {b}
{v} = self.act({a}) + {b}
{v} = {a} * self.array.mean()
{v} = {a} * self.loose
{v} = {a} * KEPT
"""

#: What a step does besides returning.
EFFECTS = """
self.count += 1|{v} = {a} * (1.0 if self.count > 6 else 0.5)
self.log.append(1)|{v} = {a} / len(self.log)
self.level = self.level + 0.01 * {a}.detach().mean()|{v} = {b} * self.level
self.level.add_(0.05)|{v} = {a} * self.level.clone()
self.level[0] += 0.05|{v} = {a} + self.level.clone()
self.level.data = self.level.data * 0.95|{v} = {a} * self.level
self.last = {a} * {b}|{v} = self.last + {k}
{v} = {a} + float(np.random.rand())
{v} = {a} + random.random()
{v} = {a} + 0.1 * torch.rand_like({a})
{v} = {a} + self.rng.random()
{v} = F.dropout({a}, 0.5)
COUNTS[0] += 1|{v} = {a} / COUNTS[0]
self.memo["n"] = self.memo.get("n", 0) + 1|{v} = {a} * self.memo["n"]
self.seen.add(len(self.seen))|{v} = {a} + 0.01 * len(self.seen)
self.queue.append({a}.detach().mean())|{v} = {b} * sum(self.queue)
self.inner.n += 1|{v} = {a} * (self.inner.n % 3)
{v} = {a} * counted()
SETTINGS.gain = SETTINGS.gain * 0.9|{v} = {a} * SETTINGS.gain
self.last = {a}.detach() if self.last is None or self.last.shape != {a}.shape else 0.5 * self.last|{v} = {b} + self.last
{a}.register_hook(lambda g: None) if {a}.requires_grad else None|COUNTS[0] += 1|{v} = {a}
"""

#: Steps that depend on values, or use autograd themselves.
HARD = """
{v} = {a} if {a}.sum() > 0 else {b}
{v} = {a} * float({b}.detach().abs().mean())
while {a}.abs().sum() > 1e3:|    {a} = {a} * 0.5|{v} = {a}
{v} = {a} + torch.from_numpy(np.linspace(0, 1, N)).to({a}.dtype)
{v} = {a} + torch.from_numpy(np.tanh({b}.detach().double().numpy())).to({a}.dtype)
z = {a}.detach().requires_grad_()|with torch.enable_grad():|    {v} = torch.autograd.grad(z.sin().sum(), z)[0] + {b}
{v} = {a} * {b}.nonzero().shape[0]
{v} = torch.func.grad(lambda z: z.tanh().sum())({a}) + {b}
{v} = x.mul_({k}) + {b}
"""

#: How each attribute of a written class is made, where its code mentions it.
ATTRIBUTES = {
    "w1": "nn.Parameter(draw(N, N))",
    "w2": "nn.Parameter(draw(N, N))",
    "b1": "nn.Parameter(draw(N))",
    "lin1": "nn.Linear(N, N)",
    "lin2": "nn.Linear(N, N, bias=False)",
    "table": "buffer(torch.linspace(0.2, 1.2, N, dtype=torch.float64))",
    "level": "buffer(torch.ones(N))",
    "gain": "1.1",
    "flag": "True",
    "options": "Options()",
    "settings": '{"gain": 0.9}',
    "inner": "Inner()",
    "act": "torch.tanh",
    "array": "np.full(2, 0.9)",
    "loose": "Kept(torch.full((N,), 0.9)).tensor",
    "count": "0",
    "log": "[]",
    "last": "None",
    "memo": "{}",
    "seen": "set()",
    "queue": "collections.deque(maxlen=3)",
    "rng": "np.random.default_rng(3)",
}

#: What a module has before its classes, where something after it mentions the name.
PREAMBLE = {
    "GAIN": "GAIN = 0.8",
    "OPTIONS": 'OPTIONS = {"gain": 0.7}',
    "SETTINGS": "SETTINGS = types.SimpleNamespace(gain=0.9)",
    "math": "math = types.ModuleType('math')\nmath.tau2 = 0.75",
    "KEPT": "KEPT = torch.tensor(0.9)",
    "COUNTS": "COUNTS = [0]",
    "SEEN": "SEEN = []",
    "closed": (
        "def make_closed(k):\n    def closed(x):\n        return k * x\n\n    def change(value):\n"
        "        nonlocal k\n        k = value\n\n    return closed, change\n\n\nclosed, change = make_closed(0.6)"
    ),
    "counted": (
        "def make_counted():\n    n = 0\n\n    def counted():\n        nonlocal n\n        n += 1\n"
        "        return 1.0 + n % 2\n\n    return counted\n\n\ncounted = make_counted()"
    ),
    "helper": "def helper(a, b, k=0.5):\n    return k * a + b.abs()",
    "partial_helper": "partial_helper = functools.partial(helper, b=torch.ones(N), k=0.4)",
    "checkpointed": "def checkpointed(f, a):\n    return torch.utils.checkpoint.checkpoint(f, a, use_reentrant=False)",
    "Options": "@dataclasses.dataclass\nclass Options:\n    gain: float = 0.9",
    "Inner": "class Inner:\n    def __init__(self):\n        self.gain, self.n = 0.8, 0",
    "Kept": "class Kept:\n    def __init__(self, tensor):\n        self.tensor = tensor",
    "Spike": (
        "class Spike(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        "        ctx.save_for_backward(x)\n        return (x > 0).to(x.dtype)\n\n    @staticmethod\n"
        "    def backward(ctx, g):\n        (x,) = ctx.saved_tensors\n        return g / (10 * x.abs() + 1) ** 2"
    ),
}

HEAD = """import collections
import copy
import dataclasses
import functools
import random
import types

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from catalogue import BESIDE, MODELS
from torch import nn

import neurodyn as nd
from neurodyn import units as u

LAYERS = {model.name: model for model in (*MODELS, *BESIDE)}
"""

#: Layers of the catalogue by the size of input that they want, and those with a time step of their own.
DRIVE = {"AdEx": 500, "QuaIF": 100, "Izhikevich": 20, "HH": 20, "MorrisLecar": 100, "GIF": 15, "ExpIF": 10}
OWN_DT = {"Izhikevich": 0.25, "HH": 0.1}
LARGE = ("AdEx", "HH", "MorrisLecar", "Izhikevich", "GIF")
SIMPLE = (
    "LIF LIF-hard IF LIFRef ALIF ExpIF QuaIF Expon DeltaEncoder LeakySpike DualExpon Alpha AMPA GABAa NMDA STP "
    "STP-brainstate STD STD-brainstate"
).split()
THREE_IN = "GRUCell MGUCell URLSTMCell LeakyRateReadout LeakySpikeReadout".split()


def choices(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line]


@dataclass
class Writer:
    """Collects the text of a program.

    Attributes:
        classes: the text of each.
        cells, nets: names of those with a step and with a forward of their own.
        dt: the time step of all, in ms.
    """

    random: random.Random
    size: int
    tables: list[list[str]]
    weights: list[float]
    classes: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    nets: list[str] = field(default_factory=list)
    dt: float = 1.0

    def k(self) -> str:
        return str(round(self.random.uniform(0.1, 0.9), 2))

    def body(self, names: list[str], n: int, calls: list[str] = ()) -> tuple[list[str], list[str]]:
        """`n` statements over `names`, and all `calls` among them in order; also the names made."""
        lines, pool, made = [], list(names), []
        places = sorted(self.random.choices(range(n), k=len(calls)))
        for i in range(n):
            for call, place in zip(calls, places, strict=True):
                if place == i:
                    a = self.random.choice(pool)
                    lines += call.format(v=f"s{len(made)}", a=a).split("|")
                    pool.append(f"s{len(made)}")
                    made.append(f"s{len(made)}")
            template = self.random.choice(self.random.choices(self.tables, self.weights)[0])
            a, b = (self.random.choice(pool[-4:]) for _ in "ab")
            v = f"v{len(made)}"
            lines += template.format(v=v, a=a, b=b, k=self.k()).split("|")
            pool.append(v)
            made.append(v)
        return lines, made

    def init(self, lines: list[str], more: dict[str, str], head: str) -> list[str]:
        text = "\n".join(lines)
        found = [head]
        for name, value in {**ATTRIBUTES, **more}.items():
            if re.search(rf"self\.{name}\b", text) or name in more or (name == "gain" and "double_gain" in text):
                if value.startswith("buffer("):
                    found.append(f'self.register_buffer("{name}", {value[7:-1]})')
                else:
                    found.append(f"self.{name} = {value}")
        return found

    def write(self, header: str, members: list[str], init: list[str], signature: str, method: str, lines: list[str]):
        if "self.beta" in "\n".join(lines):
            members = ["beta = 0.8", *members]
        text = [header, *(f"    {line}" for line in members)]
        if init:
            text += ["", f"    def __init__(self{signature}):", *(f"        {line}" for line in init)]
        if "double_gain" in "\n".join(lines):
            text += ["", "    @property", "    def double_gain(self):", "        return 2 * self.gain"]
        text += ["", f"    def {method}:", *(f"        {line}" for line in lines)]
        self.classes.append("\n".join(text))

    def cell(self) -> str:
        """A `Dynamics` with a step of its own; how it is built."""
        name, states = f"Cell{len(self.cells)}", ["p", "q"][: self.random.choice([1, 2])]
        lines, made = self.body(["x", *states], self.random.randint(2, 5))
        news = [f"0.6 * {s} + 0.4 * torch.tanh({self.random.choice(made[-2:])} + x)" for s in states]
        if self.random.random() < 0.1:
            news[-1] = self.random.choice(made)
        lines.append(f"return {', '.join([made[-1], *news])}")
        members = [f"{s} = nd.state({self.random.choice(['0.0', '0.2'])})" for s in states]
        init = self.init(lines, {}, "super().__init__(size, **values)")
        init = init if len(init) > 1 else []
        self.write(
            f"class {name}(nd.Dynamics):",
            members,
            init,
            ", size, **values",
            f"step(self, x, {', '.join(states)})",
            lines,
        )
        self.cells.append(name)
        return f"{name}(N)"

    def net(self, layers: list[str], last: bool) -> str:
        """A module with a forward of its own around layers; how it is built."""
        name = f"Net{len(self.nets)}"
        more = {f"layer{i}": layer for i, layer in enumerate(layers)}
        calls = [self.called(i) for i in range(len(layers))]
        unused = self.random.random() < 0.1
        if unused:
            more["unused"] = "nd.LIF(N)"
        inputs = ["x", "y"] if last and self.random.random() < 0.15 else ["x"]
        lines, made = self.body(inputs, self.random.randint(1, 4), calls)
        if self.random.random() < 0.35 and layers:
            lines = ["x = x + 0.5 * previous", *lines]
            lines.insert(0, f"previous = self.feedback(self.layer0.{self.first_state(layers[0])})")
            more["feedback"] = self.random.choice(["nn.Linear(N, N)", "nn.Linear(N, N, bias=False)"])
        out = made[-1]
        if last:
            out = self.random.choice([out, out, f"({out}, {made[0]})", f'{{"out": {out}, "x": {made[0]} * 2}}'])
        lines.append(f"return {out}")
        init = self.init(lines, more, "super().__init__()")
        self.write(f"class {name}(nn.Module):", [], init, "", f"forward(self, {', '.join(inputs)})", lines)
        self.nets.append(name)
        return f"{name}()"

    def first_state(self, layer: str) -> str:
        kind = layer.split("(")[0]
        return {"nd.LIF": "V", "nd.Expon": "g", "nd.ALIF": "V"}.get(kind, "p")

    def called(self, i: int) -> str:
        if self.random.random() < 0.1:
            return f"{{v}} = self.layer{i}({{a}}) if self.flag else {{a}} + 0.0"
        if self.weights[3] and self.random.random() < 0.1:
            return f"self.count += 1|{{v}} = self.layer{i}({{a}}) if self.count % 3 else {{a}} + 0.0"
        if self.random.random() < 0.1:
            return f"{{v}} = self.layer{i}(self.layer{i}({{a}}))"
        return f"{{v}} = self.layer{i}(2 * {{a}})"

    def simple(self) -> str:
        return self.random.choice(
            [
                "nd.LIF(N)",
                "nd.LIF(N, tau=5 * u.ms, learn='tau')",
                "nd.Expon(N)",
                "nd.ALIF(N)",
                self.random.choice(self.cells or ["nd.LIF"]) + "(N)",
            ]
        )

    def chain(self) -> list[str]:
        """Some layers of a row, which begins and ends with the shape (*batch, N)."""
        kind = self.random.choices(
            ["catalogue", "large", "three", "beside", "cell", "net", "projection", "recurrent", "torch", "sparse"],
            [4, 0.6, 1, 0.6, 5, 5, 1.5, 1, 0.7, 1],
        )[0]
        if kind in ("catalogue", "large"):
            name = self.random.choice(SIMPLE if kind == "catalogue" else LARGE)
            self.dt = OWN_DT.get(name, self.dt)
            return [f"linear({DRIVE.get(name, 3)})", f'LAYERS["{name}"](N)']
        if kind == "three":
            return ["nn.Linear(N, 3)", f'LAYERS["{self.random.choice(THREE_IN)}"](N)']
        if kind == "beside":
            return ["linear(3)", f'LAYERS["{self.random.choice(["Delay", "Recurrent", "FixedDropout"])}"](N)']
        if kind == "cell":
            return [*(["linear(2)"] if self.random.random() < 0.5 else []), self.cell()]
        if kind == "net":
            if self.random.random() < 0.4:
                self.cell()
            return [self.net([self.simple() for _ in range(self.random.choice([0, 1, 1, 2]))], last=False)]
        if kind == "projection":
            parts = ["nn.Linear(N, N, bias=False)", "synapse=nd.Expon(N)"]
            parts += self.random.choice([["plasticity=nd.STP(N)"], ["plasticity=nd.STD(N)"], []])
            parts += self.random.choice([["delay=nd.Delay(N, 2 * u.ms)"], []])
            current = self.random.random() < 0.5
            parts += ["output=nd.COBA(E=3 * u.mV)"] if current else []
            return ["nd.LIF(N)", f"nd.Projection({', '.join(parts)})", "nd.LIF(N)"]
        if kind == "recurrent":
            cell = self.random.choice(["nd.LIF(N)", "nd.Expon(N)", "nd.ALIF(N)"])
            return ["linear(2)", f"nd.Recurrent({cell}, nn.Linear(N, N, bias={self.random.random() < 0.5}))"]
        if kind == "sparse":
            weight = self.random.choice(["0.7", "nd.init.Normal(0.8, 0.1)"])
            if self.random.random() < 0.5:
                return [f"nd.FixedProb(N, N, prob=0.5, weight={weight})", "nd.LIF(N)"]
            return [f"nd.FixedNum(N, N, num=2, weight={weight})", "nd.Expon(N)"]
        return [self.random.choice(["nn.Tanh()", "nn.Sequential(nn.Linear(N, N), nn.ReLU())", "nn.LayerNorm(N)"])]


#: What a user does between two calls: what the source must hold for it, and the lines. {k}, {i} and {n} are numbers.
ACTIONS = [
    ("", "edit", "p = parameter(net, {i})|with torch.no_grad():|    p.mul_({k}).add_(0.1)"),
    ("", "edit", "p = parameter(net, {i})|p.data = p.data * {k}"),
    ("", "edit", "p = parameter(net, {i})|p.data.add_({k})"),
    ("", "edit", "m = pick(net, nn.Linear, {i})|m.weight = nn.Parameter(m.weight.detach() * {k})"),
    ("", "edit", "p = parameter(net, {i})|p.requires_grad_(not p.requires_grad)"),
    ("", "edit", "for p in net.parameters():|    p.requires_grad_({flag})"),
    ("", "edit", "net.train({flag})"),
    ("", "edit", "m = pick(net, nd.LIF, {i})|m.V_th.data.mul_(0.9)"),
    ("", "structure", "m = pick(net, nd.LIF, {i})|m.surrogate = nd.surrogate.Arctan()"),
    (
        "",
        "structure",
        "m, name = place(net, nn.Linear, {i})|setattr(m, name, nn.Linear(m._modules[name].in_features, N))",
    ),
    ("", "structure", "net = copy.deepcopy(net)"),
    ("", "structure", "net = pickled(net)"),
    ("", "structure", "net = build()"),
    ("", "structure", "net = nn.Sequential(net)"),
    ("", "dtype", "net.float()"),
    ("", "dtype", "net.bfloat16()"),
    ("", "dtype", "net.double()"),
    ("", "hook", "m = any_module(net, {i})|m.register_forward_hook(lambda m, x, y: SEEN.append('f'))"),
    ("", "hook", "m = any_module(net, {i})|m.register_forward_hook(lambda m, x, y: scaled(y))"),
    ("", "hook", "m = any_module(net, {i})|m.register_forward_pre_hook(lambda m, x: SEEN.append('p'))"),
    ("", "hook", "m = any_module(net, {i})|m.register_full_backward_hook(lambda m, g, h: SEEN.append('b'))"),
    ("", "hook", "p = parameter(net, {i})|p.requires_grad and p.register_hook(lambda g: 2 * g)"),
    ("", "hook", "for m in net.modules():|    m._forward_hooks.clear()|    m._forward_pre_hooks.clear()"),
    ("", "method", "m = any_module(net, {i})|old = m.forward|m.forward = lambda *xs: scaled(old(*xs))"),
    (
        "nd.LIF",
        "method",
        "m = pick(net, nd.LIF, {i})|old = m.step|m.step = lambda *xs: (0.5 * old(*xs)[0], *old(*xs)[1:])",
    ),
    (
        "class Cell",
        "class",
        "old = Cell0.step|Cell0.step = lambda self, *xs: (0.5 * old(self, *xs)[0], *old(self, *xs)[1:])",
    ),
    ("class Net", "class", "old = Net0.forward|Net0.forward = lambda self, *xs: scaled(old(self, *xs))"),
    ("self.beta", "class", "for kind in written(net):|    kind.beta = {k}"),
    ("GAIN", "global", "global GAIN|GAIN = {k}"),
    ("OPTIONS", "global", 'OPTIONS["gain"] = {k}'),
    ("SETTINGS", "global", "SETTINGS.gain = {k}"),
    ("math.tau2", "global", "math.tau2 = {k}"),
    ("KEPT", "global", "KEPT.fill_({k})"),
    ("KEPT", "global", "global KEPT|KEPT = torch.tensor({k})"),
    ("closed(", "global", "change({k})"),
    ("helper(", "global", "global helper|helper = lambda a, b, k=0.5: {k} * a - b"),
    ("helper(", "global", "helper.__defaults__ = ({k},)"),
    ("partial_helper", "global", "partial_helper.keywords['b'].mul_({k})"),
    ("Spike", "global", "Spike.backward = staticmethod(lambda ctx, g: {k} * g)"),
    ("gain", "attribute", "for m in having(net, 'gain'):|    m.gain = {k}"),
    ("self.flag", "attribute", "for m in having(net, 'flag'):|    m.flag = not m.flag"),
    ("self.options", "attribute", "for m in having(net, 'options'):|    m.options.gain = {k}"),
    ("self.settings", "attribute", "for m in having(net, 'settings'):|    m.settings['gain'] = {k}"),
    ("self.inner", "attribute", "for m in having(net, 'inner'):|    m.inner.gain = {k}"),
    ("self.array", "attribute", "for m in having(net, 'array'):|    m.array[:] = {k}"),
    ("self.loose", "attribute", "for m in having(net, 'loose'):|    m.loose.mul_({k})"),
    ("self.act", "attribute", "for m in having(net, 'act'):|    m.act = torch.sin"),
    ("self.level", "attribute", "for m in having(net, 'level'):|    m.level = m.level * {k}"),
    ("self.table", "attribute", "for m in having(net, 'table'):|    m.table.mul_({k})"),
]

BATCHES = [(), (1,), (2,), (3,), (5,), (2, 3), (1, 1), (2, 1, 2)]


def program(seed: int) -> str:
    """The text of the program with this number."""
    r = random.Random(seed)
    weights = r.choices([[6, 3, 0, 0, 0], [4, 1, 4, 0, 0], [4, 2, 2, 2, 0], [5, 2, 1, 0, 1]], [4, 3, 2.5, 1])[
        0
    ]  # pure, in place, reads, effects, hard
    w = Writer(r, r.choice([3, 4, 5]), [choices(t) for t in (PURE, IN_PLACE, READS, EFFECTS, HARD)], weights)
    kind = r.choices(["row", "net", "cell", "layer"], [4, 4, 2, 1])[0]
    if kind == "row":
        parts = [part for _ in range(r.choice([1, 2])) for part in w.chain()]
        if r.random() < 0.3:
            parts.append(w.net([w.simple() for _ in range(r.choice([0, 1]))], last=True))
        if not any(word in part for part in parts for word in ("nd.", "LAYERS", "Cell")) and "self.layer" not in str(
            w.classes
        ):
            parts.append("nd.LIF(N)")
        built = f"nn.Sequential({', '.join(parts)})"
    elif kind == "net":
        if r.random() < 0.5:
            w.cell()
        built = w.net([w.simple() for _ in range(r.choice([1, 2, 2]))], last=True)
    elif kind == "cell":
        built = w.cell()
    else:
        built = f'LAYERS["{r.choice(SIMPLE)}"](N)'
    return _text(w, r, built)


def _text(w: Writer, r: random.Random, built: str) -> str:
    body = "\n\n\n".join(w.classes)
    dtype = "torch.float32" if r.random() < 0.2 else "torch.float64"
    build = [
        "def build():",
        f"    with nd.default_dt({w.dt} * u.ms):",
        f"        return {built}",
    ]
    befores, calls = _session(r, body + built, "x, y" in body)
    rest = "\n\n\n".join([body, "\n".join(build), *befores]).strip()
    helpers = "\n\n\n".join(
        text
        for name, text in PREAMBLE.items()
        if re.search(rf"\b{name}\b", rest) or (name == "helper" and "partial_helper" in rest)
    )
    tools = "draw linear parameter pick place any_module pickled scaled having written".split()
    tools = [name for name in tools if re.search(rf"\b{name}\(", rest)]
    imports = f"from soundness.fuzz import {', '.join(tools)}\n" if tools else ""
    text = f"{HEAD}{imports}\nN = {w.size}\nDTYPE = {dtype}\n"
    listed = "".join(f"    {call},\n" for call in calls)
    return f"{text}\n\n{helpers}\n\n\n{rest}\n\n\nCALLS = [\n{listed}]\n".replace("linear(", "linear(N, ").replace(
        "F.linear(N, ", "F.linear("
    )


def _session(r: random.Random, source: str, two: bool) -> tuple[list[str], list[dict]]:
    pure = not any(line.split("|")[0].split("{")[0] in source for line in choices(EFFECTS) if not line.startswith("{"))
    pure = pure and not re.search(
        r"checkpointed|torch\.func|autograd\.grad|rand|dropout|counted|self\.rng|\.mul_\(.*\) \+|Dropout", source
    )
    befores: list[str] = []
    calls, spent, replaced, done, forms = [], 0, False, set(), r.sample(BATCHES, 3)
    if "previous" in source:  # a loop that reads a state before it is set: which batch is meant shows in the last one
        forms = r.sample([form for form in BATCHES if len(form) == len(forms[0])], 1) * 2 + [forms[0]]
    for i in range(r.randint(4, 6)):
        call: dict = {"T": r.choice([1, 2, 3, 4, 5, 7, 8, 9, 16, 21, 40][: 8 if r.random() < 0.7 else 11])}
        call["batch"] = r.choice(forms)
        wanted = ["train"] * 6 + ["no_grad", "states", "return_states", "simulate", "stream"]
        wanted += ["checkpoint", "record"] if pure else []
        call["kind"] = r.choice(wanted)
        if r.random() < 0.3:
            call["grad_x"] = False
        if i and r.random() < 0.75:
            fitting = [a for a in ACTIONS if a[0] in source and (spent < 2 or a[1] == "edit")]
            fitting = [a for a in fitting if a not in done]
            special = [a for a in fitting if a[0] and (a[1] != "class" or r.random() < 0.5)]
            action = r.choice(special if special and r.random() < 0.7 else fitting)
            done.add(action)
            _, group, lines = action
            if (replaced and ("deepcopy" in lines or "pickled" in lines)) or (two and "nn.Sequential(net)" in lines):
                continue
            replaced |= group in ("method", "hook", "class") or "Spike.backward" in lines
            spent += group not in ("edit",)
            lines = lines.format(k=round(r.uniform(0.2, 0.9), 2), i=r.randrange(9), flag=r.random() < 0.5)
            text = [f"def before_{i}(net):", *(f"    {line}" for line in lines.split("|")), "    return net"]
            befores.append("\n".join(text))
            call["before"] = f"before_{i}"
        if two:
            call["inputs"] = 2
        if re.search(r"return [({]", source):
            call["several"] = True
        calls.append(call)
    return befores, calls
