"""The command line: ``neurodyn train``, ``simulate``, ``bench`` and ``info``."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from .cli.files import write_spikes
from .cli.options import Wrong, device, duration, folder, number, picture, spike_file, whole
from .tools.extras import MissingExtra, needed

NETWORKS = ("coba", "cuba", "cobahh", "brunel", "memory", "synfire", "microcircuit", "balance", "gamma", "decision")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage, which --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.splitlines())}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    for name, value in vars(options).items():
        if value == []:  # what argparse makes of "--name=--"
            options.parser.error(f"argument --{name}: expected one argument")
    try:
        return options.run(options)
    except MissingExtra as error:
        print(error, file=sys.stderr)
        return 1
    except Wrong as error:
        return options.parser.error(str(error))
    except OSError as error:
        print(f"neurodyn {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="neurodyn", description="Neuro-dynamics for PyTorch.")
    seed = whole(0, 2**62)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Any, help: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help,
            description=textwrap.fill(description, 78),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run, parser=made)
        return made

    train = command(
        "train",
        _train,
        "train a spiking network on recorded data",
        "Train a spiking network on recorded data and print its accuracy on data that it has not seen. Writes metrics, "
        "checkpoints and two pictures.",
        "data:\n"
        "  vowels   who of nine speakers says a vowel: 270 utterances, 370 for the test\n"
        "  digits   which of ten digits is drawn, 8 x 8 pixels, read row by row",
    )
    train.add_argument("--data", choices=("vowels", "digits"), default="vowels", help="default: vowels")
    train.add_argument(
        "--epochs",
        type=whole(1, 1_000_000),
        metavar="N",
        help="passes over the data; default: 40 (vowels), 30 (digits)",
    )
    train.add_argument("--seed", type=seed, default=0, metavar="N", help="of weights, order and noise; default: 0")
    train.add_argument("--device", type=device, default="cpu", help="of torch, such as cuda; default: cpu")
    train.add_argument("--out", type=folder, metavar="FOLDER", help="for all files; default: runs/DATA")
    found = train.add_mutually_exclusive_group()
    found.add_argument("--resume", action="store_true", help="go on with the run in the folder, to the same numbers")
    found.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    train.add_argument("--quiet", action="store_true", help="no progress bar")

    simulate = command(
        "simulate",
        _simulate,
        "simulate a network from the literature",
        "Simulate a network from the literature, print its rates and draw the spikes of some neurons, and the rates of "
        "all, in its last second.",
        "networks:\n"
        "  coba     Vogels and Abbott 2005, conductances: 4,000 neurons\n"
        "  cuba     the same with currents\n"
        "  cobahh   Brette and others 2007, Hodgkin-Huxley neurons: 4,000\n"
        "  brunel   Brunel 2000, asynchronous and irregular: 12,500 neurons\n"
        "  memory   Mongillo, Barak and Tsodyks 2008, working memory: 10,000 neurons\n"
        "  synfire  Diesmann, Gewaltig and Aertsen 1999, a chain of ten groups of 100\n"
        "  microcircuit   Potjans and Diesmann 2014: 77,169 neurons in four layers\n"
        "  balance  Vogels and others 2011, inhibitory synapses learn: 1,000 neurons\n"
        "  gamma    Wang and Buzsaki 1996, interneurons in synchrony: 100 neurons\n"
        "  decision   Wang 2002, two populations compete to decide: 2,000 neurons",
    )
    simulate.add_argument("network", choices=NETWORKS, metavar="network", help="one of the networks below")
    simulate.add_argument(
        "--scale", type=number(0.02, 1000), default=1.0, metavar="X", help="times its neurons; default: 1"
    )
    simulate.add_argument(
        "--duration",
        type=duration,
        default="1s",
        metavar="TIME",
        help="with its unit, such as 500ms or 2s; default: 1s",
    )
    simulate.add_argument("--seed", type=seed, default=0, metavar="N", help="of connections and inputs; default: 0")
    simulate.add_argument("--device", type=device, default="cpu", help="of torch, such as cuda; default: cpu")
    simulate.add_argument("--out", type=picture, metavar="FILE", help="the picture; default: NETWORK.png")
    simulate.add_argument(
        "--spikes", type=spike_file, metavar="FILE", help="for all spikes: .npz or .csv; default: none"
    )
    simulate.add_argument("--quiet", action="store_true", help="no progress bar")

    bench = command(
        "bench",
        _bench,
        "measure the time loop on this machine",
        "Measure a layer of neurons, compiled and step by step in turn. In a source checkout, python -m benchmarks "
        "measures more, beside other systems.",
    )
    bench.add_argument("--device", type=device, default="cpu", help="of torch, such as cuda; default: cpu")
    command("info", _info, "print versions, threads, compiler, GPU and cache", "Print what neurodyn runs on.")
    return parser


def _default(read: Any, text: str) -> Any:
    """The value of ``--out`` where it is not given, checked like one that is."""
    try:
        return read(text)
    except argparse.ArgumentTypeError as error:
        raise Wrong("--out", str(error)) from error


def _train(options: argparse.Namespace) -> int:
    from .train import RunError, train

    out, start = options.out or _default(folder, f"runs/{options.data}"), time.perf_counter()
    try:
        accuracy = train(
            options.data,
            epochs=options.epochs,
            seed=options.seed,
            device=options.device,
            out=out,
            resume=options.resume,
            overwrite=options.overwrite,
            progress=not options.quiet,
        )
    except RunError as error:
        raise Wrong("--out", str(error)) from error
    print(f"test accuracy {accuracy:.2f} %, after {time.perf_counter() - start:.0f} s; see {out}/learning_curve.png")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from .examples import NETWORKS

    if options.out:
        needed("matplotlib", "plot", "neurodyn simulate --out")
    chosen, out = NETWORKS[options.network], options.out or _default(picture, f"{options.network}.png")
    _check_memory(chosen.synapses(options.scale))
    net = chosen.build(options.scale, seed=options.seed, device=options.device)
    start = time.perf_counter()
    spikes = chosen.run(net, options.duration, seed=options.seed, progress=not options.quiet)["spikes"]
    seconds, rate = time.perf_counter() - start, float(spikes.rates.magnitude.mean())
    print(f"{chosen.about}\n{spikes.shape[-1]} neurons, {len(spikes)} spikes, mean rate {rate:.2f} Hz, {seconds:.1f} s")
    groups: dict[str, int] = vars(net).get("groups", {})
    if groups:
        bounds = [0, *itertools.accumulate(groups.values())]
        means = [float(spikes.rates.magnitude[a:b].mean()) for a, b in itertools.pairwise(bounds)]
        print(", ".join(f"{name} {mean:.2f} Hz" for name, mean in zip(groups, means, strict=True)))
    if options.spikes:
        write_spikes(options.spikes, spikes)
        print(f"spikes in {options.spikes}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print("for a picture: pip install 'neurodyn[plot]'", file=sys.stderr)
        return 0
    from . import plot
    from . import units as u

    figure = Figure(figsize=(8, 5), layout="constrained", dpi=150)
    length, last = (spikes.stop - spikes.start) * spikes.dt, spikes.stop * spikes.dt
    window, transient = min(chosen.window, length) * u.ms, chosen.transient if 2 * chosen.transient < length else 0.0
    settling = transient * u.ms if transient else None
    shown = {"groups": groups or None, "rates": chosen.rates or None, "sample": 400}
    plot.activity(spikes, window, **shown, transient=settling, figure=figure)
    figure.axes[0].set_xlim(max(0.0, last - 1000), last)
    figure.savefig(out)
    print(f"see {out}")
    return 0


def _check_memory(synapses: float) -> None:
    """Refuse a network that this machine cannot hold, before it is killed for trying."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    there, wanted = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 16 * synapses / 2**30
    if wanted > there:
        raise Wrong("--scale", f"its {synapses:.2g} synapses take {wanted:.0f} GiB, and this machine has {there:.0f}")


def _bench(options: argparse.Namespace) -> int:
    from .cli.bench import bench

    print(bench(options.device))
    return 0


def _info(options: argparse.Namespace) -> int:
    from .cli.info import info

    print(info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
