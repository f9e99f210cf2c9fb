"""The command line: ``neurodyn train``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence


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


if __name__ == "__main__":
    sys.exit(main())
