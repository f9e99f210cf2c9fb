"""Random edits of state_dicts, loaded and used: `python edits.py FIRST LAST`. An error or a correct result is right.

The reference is a sum over the synapses that the loaded tensors describe, in float64.
"""

from __future__ import annotations

import copy
import random
import sys

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

#: What an error may be; anything else, such as an IndexError from the depths, is a fault.
ERRORS = (RuntimeError, ValueError, TypeError)
STEPS = 14
DTYPES = torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.int16, torch.bool


def connection(r: random.Random, n: int, m: int) -> nd.Sparse:
    generator = torch.Generator().manual_seed(r.randrange(2**31))
    weight = 0.5 if r.random() < 0.3 else nd.init.Normal(0.0, 1.0, generator)
    options: dict = {"weight": weight, "generator": generator}
    longest, part = r.choice((1, 3, 8)), r.choice((0.0, 0.0, 0.25))
    if r.random() < 0.6:
        each = lambda size: (torch.randint(1, longest + 1, size, generator=generator) + part) * u.ms  # noqa: E731
        options["delay"] = each if r.random() < 0.7 else (longest + part) * u.ms
        if part or r.random() < 0.3:
            options["interpolation"] = "linear"
            options["learn"] = r.choice(((), "delay", ("weight", "delay")))
    return nd.FixedProb(n, m, r.choice((0.0, 0.1, 0.4, 0.9)), **options)


def delay(r: random.Random, n: int) -> nd.Delay:
    ms = r.choice((1, 3, 8)) + r.choice((0.0, 0.0, 0.5))
    value = ms * u.ms if r.random() < 0.5 else u.quantity(torch.linspace(0, 1, n).round() + ms, "ms")
    linear = ms % 1 > 0 or r.random() < 0.3
    learn = "delay" if linear and r.random() < 0.5 else ()
    return nd.Delay(n, value, interpolation="linear" if linear else "none", learn=learn)


def edited(r: random.Random, state: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in range(r.choice((0, 0, 1, 1, 2, 3))):
        name = r.choice(list(state) or ["x"])
        value = state.get(name, torch.zeros(3)).clone()
        kind = r.randrange(9)
        if kind == 0:
            state.pop(name, None)
            continue
        if kind == 1:
            name += "_more"
        elif kind == 2 and value.dim():
            value = value[: r.randrange(len(value) + 1)]
        elif kind == 3 and value.dim():
            value = torch.cat((value, value[: r.randrange(len(value) + 1)]))
        elif kind == 4 and value.numel():
            number = r.choice((-1, 0, 1, 3, 10**9, -(2**31), 2**31 - 1, 50_000_000))
            value.view(-1)[r.randrange(value.numel())] = number
        elif kind == 5:
            value = value.to(
                r.choice((torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.int16, torch.bool))
            )
        elif kind == 6:
            value = r.choice(
                (value[None], value.flatten()[:1].squeeze(), value.new_zeros(0), value.expand(2, *value.shape))
            )
        elif kind == 7 and value.is_floating_point():
            value = value * r.choice((-1.0, float("nan"), float("inf"), 1e30, 0.5, 3.0))
        elif kind == 8 and value.numel() > 1:
            value = value.flatten()[torch.randperm(value.numel())].view(value.shape)
        state[name] = value
    return state


def wanted(net: nn.Module, xs: Tensor) -> Tensor:
    """The output synapse by synapse, from the tensors that `net` shows."""
    ys = torch.zeros(STEPS, *xs.shape[1:-1], net.out_size[0] if isinstance(net, nd.Sparse) else xs.shape[-1])
    if isinstance(net, nd.Sparse) and net.delays is not None:
        first = net.arrivals.pending_initializer.detach().expand(net.arrivals.size)[:-1][:STEPS]  # the last is empty
        ys[: len(first)] += first[:, None] if ys.dim() == 3 else first
    if isinstance(net, nd.Delay):
        sources, targets, weight = range(xs.shape[-1]), range(xs.shape[-1]), torch.ones(xs.shape[-1])
        layer = net
    else:
        sources, targets, weight = net.pre_index.tolist(), net.post_index.tolist(), net.weight.detach()
        weight, layer = weight.expand(len(targets)), net.delays
    steps = torch.zeros(len(targets)) if layer is None else layer.delay.detach() / layer.dt
    if layer is not None and layer.learned:
        steps = steps.clamp(1, layer.length)
    for i, j, w, d in zip(sources, targets, weight, steps.expand(len(targets)).tolist(), strict=True):
        if d != d:
            ys[..., j] += d
            continue
        rounding = 1e-5 if layer is None or layer.learned else max(1e-5, 2 * torch.finfo(layer.delay.dtype).eps * d)
        d = round(d) if abs(d - round(d)) <= rounding else d
        for lag, part in ((int(d), 1 - d % 1), (int(d) + 1, d % 1)):
            if part and lag < STEPS:
                x = xs[: STEPS - lag, ..., i]
                ys[lag:, ..., j] += torch.where(x == 0, 0.0, w * part * x)  # an input of 0 sends nothing, also not nan
            if part and isinstance(net, nd.Delay):
                ys[:lag, ..., j] += part * net.past_initializer.detach().expand(net.size)[i]
    return ys


def attempt(seed: int) -> str:
    r = random.Random(seed)
    torch.manual_seed(seed)
    n, m = r.choice(((6, 5), (1, 1), (12, 3)))
    make = (lambda: delay(r, n)) if r.random() < 0.3 else (lambda: connection(r, n, m))
    saved, loaded = make(), make()
    xs = torch.rand(STEPS, 2, n) * (torch.rand(STEPS, 2, n) < 0.4)
    if r.random() < 0.5:
        loaded(xs[0])
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    outcome, assign = "loaded", r.random() < 0.3
    try:
        state = edited(r, dict(saved.state_dict()))
        loaded.load_state_dict(state, strict=r.random() < 0.5, assign=assign)
    except ERRORS:
        outcome = "refused"
    if outcome == "loaded" and r.random() < 0.3:
        loaded = copy.deepcopy(loaded)
    try:
        if any(isinstance(layer, nd.Dynamics) for layer in loaded.modules()):
            nd.reset_states(loaded, 2)
        ys = torch.stack([loaded(x) for x in xs]).detach()
    except ERRORS:
        return f"{outcome}, then an error"
    reference = wanted(loaded, xs)
    finite = reference.isfinite() & ys.isfinite()
    usual = all(bool((value.abs() < 1e25).all()) for value in loaded.state_dict().values())  # no 0 * nan
    assert not usual or bool(finite.all())
    scale = 1 + reference[finite].abs().max() if bool(finite.any()) else 0.0
    assert not bool(((ys - reference)[finite].abs() > 1e-6 * scale).any())
    if outcome == "refused" and not assign:  # what was there before can be had again
        loaded.load_state_dict(before)
        assert torch.stack([loaded(x) for x in xs]).isfinite().any() or not before
    return outcome


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    found: dict[str, int] = {}
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            what = attempt(seed)
        except BaseException:
            print("seed", seed, flush=True)
            raise
        found[what] = found.get(what, 0) + 1
    print(found)
