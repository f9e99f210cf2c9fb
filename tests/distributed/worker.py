"""What each of the processes of test_distributed.py checks; started by torchrun, writes its findings to a file."""

from __future__ import annotations

import copy
import json
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join

sys.path.append(str(Path(__file__).parents[1]))
from graphs import uncompiled

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import compiled_chunk, program, program_cache
from neurodyn.examples import brunel

KERNELS = ("ddp_gradients",)  # compiles its chunks; the others run their graphs as they are, as in conftest.py

CHECKS: dict[str, Callable[[Path], None]] = {}


def check(f: Callable[[Path], None]) -> Callable[[Path], None]:
    CHECKS[f.__name__] = f
    return f


def layers() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(3, 6),
        nd.LIF(6, tau=8 * u.ms, learn="tau", surrogate=nd.surrogate.Arctan()),
        nd.Projection(
            nn.Linear(6, 4, bias=False), plasticity=nd.STP(6), synapse=nd.Expon(4), output=nd.CUBA(scale=9 * u.mV)
        ),
        nd.LIF(4, tau=nd.init.Normal(9 * u.ms, 1 * u.ms), learn="tau", surrogate=nd.surrogate.Arctan()),
    )


def loss(y: Tensor) -> Tensor:
    return (y - 0.3).square().mean()


class Windows(nn.Module):
    """Goes on from the states of the window before."""

    def __init__(self):
        super().__init__()
        self.layers = layers()

    def forward(self, xs: Tensor, states: dict[str, Tensor] | None = None) -> Tensor:
        return nd.unroll(self.layers, xs, states=states, compile=False)


def data(batch: int, seed: int = 0) -> Tensor:
    return 20 * torch.rand(12, batch, 3, generator=torch.Generator().manual_seed(seed))


def mine(x: Tensor) -> Tensor:
    return x.tensor_split(dist.get_world_size(), 1)[dist.get_rank()]


def close(found: nn.Module, wanted: nn.Module, of: Callable[[Tensor], Tensor]) -> None:
    for (name, a), b in zip(found.named_parameters(), wanted.parameters(), strict=True):
        a, b = of(a), of(b)
        a = a.full_tensor() if hasattr(a, "full_tensor") else a
        assert b.abs().max() > 0, name
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12), (name, a, b)


@check
def ddp_gradients(_: Path) -> None:
    for compile in (False, True):
        whole = nd.Unroll(layers(), compile=compile)
        net = nd.distributed.ddp(nd.Unroll(copy.deepcopy(whole.module), compile=compile))
        loss(whole(data(8))).backward()
        loss(net(mine(data(8)))).backward()
        close(net.module, whole, lambda p: p.grad)


@check
def ddp_states_stay_local(_: Path) -> None:
    """Also with torch's own class, called as it is."""
    for wrapped in (nd.distributed.ddp, nn.parallel.DistributedDataParallel):
        states_stay_local(wrapped)


def states_stay_local(wrapped: Callable[[nn.Module], nn.Module]) -> None:
    whole, local = Windows(), Windows()
    first, second = data(7), data(7, seed=1)  # 4 and 3 sequences
    whole(first)
    local(mine(first))  # the states are set before DDP sees the network
    net = wrapped(local)
    wanted = whole(second, nd.get_states(whole.layers))
    found = net(mine(second), nd.get_states(local.layers))
    assert torch.equal(found, mine(wanted))
    for name, value in nd.get_states(local.layers).items():
        assert torch.equal(value, mine(nd.get_states(whole.layers)[name].unsqueeze(0))[0]), name


@check
def ddp_uneven_batches(_: Path) -> None:
    """With Join a process that has run out of batches counts as one whose gradient is zero."""
    batches = [[data(2, seed=10 * rank + i) for i in range(3 - rank)] for rank in range(2)]
    net, whole = nd.distributed.ddp(Windows()), Windows()
    rates = {"lr": 0.05}
    optimizer, reference = torch.optim.SGD(net.parameters(), **rates), torch.optim.SGD(whole.parameters(), **rates)
    with Join([net]):
        for x in batches[dist.get_rank()]:
            optimizer.zero_grad()
            loss(net(x)).backward()
            optimizer.step()
    for i in range(3):
        reference.zero_grad()
        sum(loss(whole(each[i])) for each in batches if i < len(each)).div(2).backward()
        reference.step()
    if dist.get_rank() == 0:  # the other has left before the last step
        close(net.module, whole, lambda p: p)


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range, local: bool) -> None:
    for i in steps:
        optimizer.zero_grad()
        x = data(6, seed=i)
        loss(net(mine(x) if local else x)).backward()
        optimizer.step()


def reference(steps: int) -> nn.Module:
    net = Windows()
    trained(net, torch.optim.Adam(net.parameters(), lr=0.02), range(steps), local=False)
    return net


@check
def ddp_resumes(folder: Path) -> None:
    net = nd.distributed.ddp(Windows())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    trained(net, optimizer, range(2), local=True)
    if dist.get_rank() == 0:
        nd.save(folder / "ddp", net=net.module, optimizer=optimizer)
    dist.barrier()
    fresh = Windows()
    torch.nn.init.zeros_(fresh.layers[0].weight)
    net = nd.distributed.ddp(fresh)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    nd.load(folder / "ddp", net=net.module, optimizer=optimizer)
    trained(net, optimizer, range(2, 4), local=True)
    close(net.module, reference(4), lambda p: p)


@check
def fsdp_trains_and_resumes(folder: Path) -> None:
    def sharded() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = Windows()
        if dist.get_rank():
            torch.nn.init.zeros_(net.layers[0].weight)  # process 0 decides
        nd.distributed.fsdp(net)
        return net, torch.optim.Adam(net.parameters(), lr=0.02)

    net, optimizer = sharded()
    assert type(net.layers[0].weight).__name__ == "DTensor"
    trained(net, optimizer, range(2), local=True)
    close(net, reference(2), lambda p: p)
    assert net.layers[1].V.shape == (3, 6)
    with pytest.raises(TypeError, match=r"nd\.distributed\.full_state"):
        nd.save(folder / "refused", net=net)
    state = nd.distributed.full_state(net, optimizer)
    if dist.get_rank() == 0:
        nd.save(folder / "fsdp", **state)
    dist.barrier()
    net, optimizer = sharded()
    nd.distributed.set_full_state(net, optimizer, state=nd.load(folder / "fsdp"))
    trained(net, optimizer, range(2, 4), local=True)
    close(net, reference(4), lambda p: p)
    if dist.get_rank() == 0:
        plain = Windows()
        nd.load(folder / "fsdp", net=plain)  # one process reads it as well
        close(plain, reference(2), lambda p: p)


class Driven(nn.Module):
    """Two populations, a source with plasticity, a synapse at the source, values for each neuron, and an input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        random = torch.Generator().manual_seed(2)
        self.E = nd.LIFRef(31, tau=nd.init.Normal(10 * u.ms, 1 * u.ms, random), tau_ref=3 * u.ms, R=1 * u.Gohm)
        self.I = nd.LIF(9, reset="hard", R=1 * u.Gohm)
        self.E_delay, self.I_delay = nd.Delay(31, nd.init.Constant(3 * u.ms)), nd.Delay(9, 2 * u.ms)
        weight = nd.init.Normal(0.3 * u.nS, 0.2 * u.nS, random)
        self.EE = nd.Projection(
            nd.FixedProb(31, 31, 0.3, weight=weight, generator=random),
            plasticity=nd.STP(31),
            synapse=nd.Expon(31, tau=nd.init.Uniform(2 * u.ms, 9 * u.ms, random)),
            output=nd.COBA(31, E=torch.linspace(3, 5, 31) * u.mV),
        )
        self.EI = nd.Projection(nn.Linear(31, 9), synapse=nd.AMPA(31, T_dur=1 * u.ms), align="pre")
        self.IE = nd.FixedNum(9, 31, 5, weight=-0.1 * u.nS, generator=random)
        self.register_buffer("drive", torch.linspace(0.9, 1.2, 31))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        E, I = self.E_delay.read(), self.I_delay.read()
        spikes = self.E(self.EE(E) + (self.IE(I) + self.drive * x))
        others = self.I(self.EI(E))
        self.E_delay(spikes)
        self.I_delay(others)
        return {"E_spikes": spikes, "I_spikes": others}


def noise(first: int, steps: int, generator: torch.Generator) -> Tensor:
    return 1 + torch.rand(steps, 2, 31, generator=generator)


def same(found: nd.Recording, wanted: nd.Recording) -> None:
    for name, events in wanted.records.items():
        if isinstance(events, nd.Events):
            assert len(events) > 100, (name, len(events))
            assert events.shape == found[name].shape
            assert torch.equal(events.steps, found[name].steps), name
            assert torch.equal(events.neurons, found[name].neurons), name
        else:
            assert torch.equal(events.values, found[name].values), name
            assert events.unit == found[name].unit
    assert found.step == wanted.step
    assert list(found.states) == list(wanted.states)
    for name, value in wanted.states.items():
        assert torch.equal(value, found.states[name]), name


@check
def split_population(_: Path) -> None:
    record = ("E_spikes", "I_spikes", "E.V", "EE.synapse.g")
    options = {"batch": (2,), "seed": 3, "compile": False}
    whole = nd.simulate(Driven(), 101 * u.ms, noise, record, progress=False, **options)
    net = Driven()
    first = nd.distributed.simulate(net, 40 * u.ms, noise, record, **options)
    options |= {"states": first.states, "start": first.step}
    rest = nd.distributed.simulate(net, 61 * u.ms, noise, record, **options)
    assert torch.equal(torch.cat([part["E.V"].values for part in (first, rest)]), whole["E.V"].values)
    assert torch.equal(net.E.V, whole.states["E.V"])
    steps = torch.cat([part["E_spikes"].steps for part in (first, rest)])
    assert torch.equal(steps, whole["E_spikes"].steps)
    for name, value in whole.states.items():  # a dense product of another size may round otherwise
        assert (
            torch.allclose(value, rest.states[name], 1e-12, 1e-12)
            if name == "I.V"
            else torch.equal(value, rest.states[name])
        ), name


@check
def split_brunel_compiled(_: Path) -> None:
    torch.set_default_dtype(torch.float32)
    net = brunel.Brunel(0.05)
    whole = brunel.run(net, 100.1 * u.ms, progress=False)
    same(nd.distributed.simulate(net, 100.1 * u.ms, net.external, ["spikes"]), whole)


@check
def split_refuses(_: Path) -> None:
    class Mixing(Driven):
        def forward(self, x: Tensor) -> Tensor:
            spikes = super().forward(x)["E_spikes"]
            return spikes.flip(-1)

    class Undelayed(nn.Module):
        def __init__(self):
            super().__init__()
            self.N, self.W = nd.LIF(31), nn.Linear(31, 31)

        def forward(self, x: Tensor) -> Tensor:
            return self.N(self.W(x))

    class Dense(Driven):
        def __init__(self):
            super().__init__()
            self.IE = nd.AllToAll(9, 31)

    class Averaged(Driven):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return super().forward(x + self.drive.mean())

    for kind, words in (
        (Mixing, "spikes of the part is not that of the whole"),
        (Undelayed, "has no nd.Delay"),
        (Dense, "AllToAll 'IE' cannot be split: connections are"),
        (Averaged, "cannot be split: .* of the part is not that"),
    ):
        with pytest.raises(ValueError, match=words):
            nd.distributed.simulate(kind(), 5 * u.ms, noise, ["spikes"] if kind is Mixing else (), batch=(2,))
    net = Driven()
    if dist.get_rank():
        net.EI.connection.weight.data[0, 0] += 1
    with pytest.raises(ValueError, match=r"EI\.connection\.weight differs between the processes"):
        nd.distributed.simulate(net, 5 * u.ms, noise, batch=(2,))


def main(folder: Path) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=600))
    found, compiled = {}, compiled_chunk.compiled
    program.CHUNK = ((95, 2),)
    for name, f in CHECKS.items():
        torch.set_default_dtype(torch.float64)
        compiled_chunk.compiled = compiled if name in KERNELS else uncompiled
        program_cache._shared = type(program_cache._shared)()
        try:
            f(folder)
            found[name] = "right"
        except Exception:
            found[name] = traceback.format_exc()
    (folder / f"found{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
