"""Threads, worker processes, and the same bits from the same seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from encoded import Encoded
from torch import Tensor, nn
from torch.utils.data import DataLoader

import neurodyn as nd
from neurodyn import units as u


def network(n: int) -> nn.Module:
    torch.manual_seed(n)
    return nn.Sequential(nn.Linear(3, n), nd.LIF(n, tau=nd.init.Normal(9 * u.ms, 1 * u.ms), learn="tau"), nd.Expon(n))


def gradients(net: nn.Module, xs: Tensor, compile: bool) -> list[Tensor]:
    ys = nd.unroll(net, xs, compile=compile)
    return [ys, *torch.autograd.grad(ys.square().sum(), list(net.parameters()))]


def test_threads_that_compile_and_step_at_the_same_time() -> None:
    """Two kinds of network are compiled by three threads, while a fourth steps in Python."""
    found: dict[int, list] = {}
    inputs = 9 * torch.rand(16, 4, 3)
    kinds = [(11, True), (11, True), (12, True), (13, False)]

    def work(i: int, net: nn.Module, compile: bool) -> None:
        try:
            found[i] = [gradients(net, inputs[:, : k + 1], compile) for k in range(3)]
        except BaseException as error:
            found[i] = [error]

    networks = [network(n) for n, _ in kinds]  # torch's random numbers are shared by all threads
    threads = [threading.Thread(target=work, args=(i, networks[i], kinds[i][1])) for i in range(len(kinds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, (n, _) in enumerate(kinds):
        for k, results in enumerate(found[i]):
            assert not isinstance(results, BaseException), (i, results)
            wanted = gradients(network(n), inputs[:, : k + 1], compile=False)
            assert torch.equal(results[0] > 0, wanted[0] > 0)
            for a, b in zip(results, wanted, strict=True):
                assert (a - b).abs().max() < 1e-10


def test_two_threads_step_two_networks() -> None:
    def steps(net: nn.Module) -> Tensor:
        nd.reset_states(net, 2)
        with torch.no_grad():
            return torch.stack([net(torch.full((2, 3), 5.0)) for _ in range(200)])

    networks = [network(n) for n in (5, 6)]
    alone, together = [steps(net) for net in networks], {}
    threads = [
        threading.Thread(target=lambda i=i, net=net: together.update({i: steps(net)})) for i, net in enumerate(networks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[i], alone[i]) for i in range(2))


@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_encoders_in_workers_of_a_data_loader(start: str, workers: int) -> None:
    torch.set_default_dtype(torch.float32)  # as in a new process
    data = Encoded()
    if start == "fork":
        nd.unroll(nd.LIF(2), torch.ones(3, 2))  # with compiled code in memory
    found = list(DataLoader(data, batch_size=2, num_workers=workers, multiprocessing_context=start))
    assert len(found) == 4
    for b, batch in enumerate(found):
        for k in range(2):
            wanted = data[2 * b + k]
            for name in ("seeded", "latency", "delta"):
                assert torch.equal(batch[name][k], wanted[name]), name
    drawn = torch.cat([batch["drawn"] for batch in found])
    rates = torch.stack([torch.linspace(0.1, 0.8, 4) * (i + 1) / 8 for i in range(8)])
    assert (drawn.mean(1) - rates).abs().max() < 5 * 0.5 / 50**0.5
    assert len({repr(sequence.tolist()) for sequence in drawn}) == 8


@pytest.mark.slow
def test_the_same_bits_in_two_processes_and_for_one_and_two_threads() -> None:
    script = Path(__file__).with_name("determined.py")
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    runs = []
    for threads, seed in ((1, "1"), (1, "2"), (2, "3")):
        command = [sys.executable, str(script), str(threads)]
        variables = environment | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
        runs.append(json.loads(done.stdout))
    one, again, two = runs
    assert one == again
    assert one["bits"] == two["bits"]
    assert one["spikes"] > 100
    assert one["gradient bits"]["1.raw_tau"] == two["gradient bits"]["1.raw_tau"]  # a value for each neuron
    for name, gradient in one["gradients"].items():  # others may be summed in one part for each thread
        assert abs(two["gradients"][name] - gradient) < 1e-5 * abs(gradient), name
