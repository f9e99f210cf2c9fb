"""The training loop of ``neurodyn train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from .. import checkpoint, data
from ..tools.extras import needed
from ..tools.progress import bar
from . import pictures
from .folder import PICTURES, RunFolder
from .network import Classifier


class Recipe(NamedTuple):
    """What differs between the data sets."""

    epochs: int
    batch: int
    noise: float  # standard deviation of the noise on every value
    offset: float  # standard deviation of a shift of each channel, drawn once per sequence


RECIPES = {"vowels": Recipe(40, 32, 0.3, 0.2), "digits": Recipe(30, 64, 0.3, 0.0)}


def train(
    name: str = "vowels",
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> float:
    """Train a `Classifier` on ``"vowels"`` or ``"digits"`` and return its accuracy on the test set, in percent.

    Writes to `out` (``runs/<name>``): ``metrics.jsonl``, ``epoch_*.safetensors``, ``learning_curve.png`` and
    ``raster.png``. With `resume` it goes on after the last epoch found there, to the same numbers as without the stop;
    with `overwrite` it deletes the run found there. Files that it did not write are never deleted or written over.

    Raises:
        MissingExtra: safetensors or matplotlib is not installed.
        RunError: `out` holds a run and neither is given, `resume` with other settings than those of the run there, or
            files in the way that are of no run.
    """
    for package in ("safetensors", "matplotlib"):
        needed(package, "demo", "neurodyn train")
    recipe = RECIPES[name]
    settings = {"data": name, "epochs": recipe.epochs if epochs is None else epochs, "seed": seed}
    if settings["epochs"] < 1:
        raise ValueError(f"train: epochs must be at least 1, got {epochs}")
    folder = RunFolder(Path(out or f"runs/{name}"), settings["epochs"])
    last = None
    if resume:
        last = folder.last(settings)
    else:
        folder.start(overwrite)
    training, test = (data.Split(*(part.to(device) for part in split)) for split in data.load(name))

    torch.manual_seed(seed)
    net = Classifier(training.x.shape[2], int(training.y.max()) + 1).to(device)
    loader = DataLoader(TensorDataset(*training), recipe.batch, shuffle=True)
    steps = settings["epochs"] * len(loader)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-2, total_steps=steps, pct_start=0.15)
    parts = {"net": net, "optimizer": optimizer, "scheduler": scheduler}
    metrics: list[dict[str, Any]] = []
    if last is not None:
        path, metrics = last
        checkpoint.load(path, **parts)
        folder.write_metrics(metrics)

    with bar(steps, wanted=progress, initial=len(metrics) * len(loader), unit=" batch") as shown:
        for epoch in range(len(metrics) + 1, settings["epochs"] + 1):
            torch.manual_seed(seed + 1000 * epoch)  # an epoch draws the same numbers whether or not the run was resumed
            net.train()
            loss_sum, correct = 0.0, 0
            for x, length, y in loader:
                logits = net(augment(x, recipe), length)
                loss = F.cross_entropy(logits, y, label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                scheduler.step()

                loss_sum += loss.item() * len(y)
                correct += int((logits.argmax(1) == y).sum())
                shown.update()

            row = {
                "epoch": epoch,
                "train_loss": loss_sum / len(training.y),
                "train_accuracy": 100 * correct / len(training.y),
                "test_accuracy": accuracy(net, test),
            }
            metrics.append(row)
            shown.set_postfix(loss=f"{row['train_loss']:.3f}", test=f"{row['test_accuracy']:.1f} %")
            record = settings | {"metrics": metrics}
            checkpoint.save(folder.checkpoint(epoch), **parts, record=record)
            folder.write_metrics(metrics)

    curve, raster = (folder.out / picture for picture in PICTURES)
    pictures.learning_curve(metrics, curve)
    pictures.spikes(net, test, raster)
    return metrics[-1]["test_accuracy"]


def augment(x: Tensor, recipe: Recipe) -> Tensor:
    """Noise on every value, and another offset for every sequence and channel."""
    offset = torch.randn(len(x), 1, x.shape[2], device=x.device)
    return x + recipe.noise * torch.randn_like(x) + recipe.offset * offset


@torch.no_grad()
def accuracy(net: nn.Module, split: data.Split) -> float:
    """Share of sequences with the right class, in percent."""
    net.eval()
    return 100 * (net(split.x, split.length).argmax(1) == split.y).float().mean().item()
