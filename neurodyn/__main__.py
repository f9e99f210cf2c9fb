"""The command line: ``neurodyn train`` and ``neurodyn simulate``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="neurodyn", description="Neuro-dynamics for PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train a spiking network on recorded data",
        description="Train a spiking network on recorded data: who speaks (vowels), or which digit is shown (digits).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("--data", choices=("vowels", "digits"), default="vowels", help="data set")
    train.add_argument("--epochs", type=int, help="passes over the training set; the default depends on the data")
    train.add_argument("--seed", type=int, default=0, help="seed of weights, order and noise")
    train.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    train.add_argument("--out", help="folder for metrics, checkpoints and pictures (default: runs/DATA)")
    train.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    train.set_defaults(run=_train)
    simulate = commands.add_parser(
        "simulate",
        help="simulate a network from the literature",
        description="Simulate a network from the literature; print its rate and draw a raster of its last second.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    simulate.add_argument("network", choices=("coba", "cuba", "brunel", "memory"))
    simulate.add_argument("--scale", type=float, default=1.0, help="size relative to the paper's network")
    simulate.add_argument("--duration", default="1s", help="simulated time with its unit, such as 500ms or 2s")
    simulate.add_argument("--seed", type=int, default=0, help="seed of the connections and inputs")
    simulate.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    simulate.add_argument("--out", help="the picture (default: NETWORK.png)")
    simulate.set_defaults(run=_simulate)
    options = parser.parse_args(arguments)
    return options.run(options)


def _train(options: argparse.Namespace) -> int:
    try:
        from .train import train
    except ModuleNotFoundError as error:
        print(f"neurodyn train needs {error.name}: pip install 'neurodyn[demo]'", file=sys.stderr)
        return 1
    out, start = options.out or f"runs/{options.data}", time.perf_counter()
    settings = {"epochs": options.epochs, "seed": options.seed, "device": options.device, "resume": options.resume}
    try:
        accuracy = train(options.data, out=out, **settings)
    except ModuleNotFoundError as error:
        print(f"neurodyn train needs {error.name}: pip install 'neurodyn[demo]'", file=sys.stderr)
        return 1
    print(f"test accuracy {accuracy:.2f} %, after {time.perf_counter() - start:.0f} s; see {out}/learning_curve.png")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from . import units as u
    from .examples import NETWORKS

    chosen, out = NETWORKS[options.network], options.out or f"{options.network}.png"
    net = chosen.build(options.scale, seed=options.seed, device=options.device)
    start = time.perf_counter()
    recording = chosen.run(net, u.registry.Quantity(options.duration), seed=options.seed)
    spikes: Any = recording["spikes"]
    seconds = time.perf_counter() - start
    rate = float(spikes.rates.magnitude.mean())
    print(f"{chosen.about}: {spikes.shape[-1]} neurons, {len(spikes)} spikes, mean rate {rate:.2f} Hz, {seconds:.1f} s")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print("for a picture: pip install 'neurodyn[plot]'", file=sys.stderr)
        return 0
    from . import plot

    figure = Figure(figsize=(8, 4), layout="constrained", dpi=150)
    ax, last = plot.raster(spikes, ax=figure.subplots()), spikes.stop * spikes.dt
    ax.set_xlim(max(0.0, last - 1000), last)
    figure.savefig(out)
    print(f"see {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
