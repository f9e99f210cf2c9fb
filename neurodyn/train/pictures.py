"""The two pictures of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import neurodyn as nd

from .. import plot
from ..data import Split
from .folder import MARK
from .network import Classifier


def learning_curve(metrics: list[dict[str, Any]], path: Path) -> None:
    """Loss on the training set, and accuracy on both sets, against the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in metrics]
    left.plot(epochs, [row["train_loss"] for row in metrics], color="#0072B2")
    left.set(xlabel="epoch", ylabel="training loss (cross entropy)", ylim=(0, None))
    left.xaxis.get_major_locator().set_params(integer=True)
    right.xaxis.get_major_locator().set_params(integer=True)
    for key, color in (("train_accuracy", "#0072B2"), ("test_accuracy", "#D55E00")):
        right.plot(epochs, [row[key] for row in metrics], color=color, label=key.removesuffix("_accuracy"))
    right.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(None, 100.5))
    right.legend(frameon=False)
    figure.savefig(path, metadata={"Software": MARK})


@torch.no_grad()
def spikes(net: Classifier, split: Split, path: Path, sample: int = 0) -> None:
    """One sequence on its way through the network: input, spikes of both layers, readout."""
    from matplotlib.figure import Figure

    net.eval()
    T = int(split.length[sample]) * net.hold
    currents = net.currents(split.x[sample : sample + 1])[:T]
    stateful = [i for i, layer in enumerate(net.layers) if isinstance(layer, nd.LIF)]
    first, second = (nd.unroll(net.layers[: i + 1], currents)[:, 0] for i in stateful)
    readout = nd.unroll(net.layers, currents)[:, 0].cpu()

    figure = Figure(figsize=(7, 7), layout="constrained", dpi=150)
    top, *rasters, bottom = figure.subplots(4, 1, sharex=True, height_ratios=(1, 2, 2, 1.4))
    extent = (0, T, 0, currents.shape[2])
    top.imshow(currents[:, 0].T.cpu(), aspect="auto", origin="lower", cmap="cividis", extent=extent)
    top.set(ylabel="input channel", title=f"one {'utterance' if split.x.shape[2] == 12 else 'image'} of the test set")
    for ax, layer, name in zip(rasters, (first, second), ("first", "second"), strict=True):
        plot.raster(layer, ax=ax).set(xlabel="", ylabel=f"neuron, {name} layer")
    truth = int(split.y[sample])
    for k in range(readout.shape[1]):
        right = k == truth
        bottom.plot(readout[:, k], color="#D55E00" if right else "0.75", lw=2 if right else 1, zorder=2 + right)
    bottom.plot([], color="#D55E00", label="the right class")
    bottom.set(xlabel="time (ms)", ylabel="readout")
    bottom.legend(frameon=False, loc="upper left")
    figure.savefig(path, metadata={"Software": MARK})
