"""One seed of one task: train, choose by the validation set, look once at the test set."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neurodyn as nd

from .task import Part, Parts, Task, taken


@dataclass(frozen=True)
class Outcome:
    """Of one seed: accuracies in percent, the epoch whose weights were kept, and how long it took."""

    test: float
    validation: float
    epoch: int
    seconds: float


def scores_and_labels(net: nn.Module, task: Task, part: Part, training: bool) -> tuple[Tensor, Tensor]:
    """Scores ``(n, classes)`` and their labels ``(n,)``, where n counts samples, or samples and steps."""
    scores = net(task.drive(part.x, training))
    labels = part.y.T if scores.dim() == 3 else part.y  # steps are in front, as in the scores
    return scores.flatten(0, -2), labels.flatten()


def loss_of(net: nn.Module, task: Task, part: Part, training: bool = True) -> Tensor:
    """The cross entropy, mean over samples and steps."""
    scores, labels = scores_and_labels(net, task, part, training)
    return F.cross_entropy(scores, labels, label_smoothing=task.label_smoothing if training else 0.0)


@torch.no_grad()
def accuracy(net: nn.Module, task: Task, part: Part) -> float:
    """The share of right answers, in percent."""
    net.eval()
    scores, labels = scores_and_labels(net, task, part, training=False)
    net.train()
    return 100 * (scores.argmax(1) == labels).float().mean().item()


class Mean:
    """A running mean of the weights, which can take their place for a while."""

    def __init__(self, net: nn.Module, decay: float):
        self.weights, self.decay, self.count = list(net.parameters()), decay, 0
        self.values = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take one more step into the mean; the first ones count alike."""
        self.count += 1
        part = max(1 - self.decay, 1 / self.count)
        for value, weight in zip(self.values, self.weights, strict=True):
            value.lerp_(weight, part)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the mean and the weights."""
        for value, weight in zip(self.values, self.weights, strict=True):
            kept = weight.clone()
            weight.copy_(value)
            value.copy_(kept)


def share(step: int, steps: int) -> float:
    """The learning rate of a step as a share of the highest."""
    return min(1.0, (step + 1) / (0.05 * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def train(task: Task, parts: Parts, seed: int, epochs: int) -> Outcome:
    """Train for so many epochs, keep the weights of the best one on the validation set, test them."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    net = task.build()
    groups = nd.parameter_groups(net, task.weight_decay, lr=task.slow_lr * task.lr)
    optimizer = torch.optim.AdamW(groups, task.lr)
    steps = epochs * math.ceil(len(parts.train.x) / task.batch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share(step, steps))
    mean = Mean(net, task.average)
    best, epoch_of_best, kept = -1.0, 0, {}
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(parts.train.x)).split(task.batch):
            optimizer.zero_grad()
            loss_of(net, task, taken(parts.train, index)).backward()
            optimizer.step()
            scheduler.step()
            mean.update()
        mean.swap()
        if (found := accuracy(net, task, parts.validation)) >= best:
            best, epoch_of_best = found, epoch
            kept = {name: value.clone() for name, value in net.state_dict().items()}
        mean.swap()
    net.load_state_dict(kept)
    return Outcome(accuracy(net, task, parts.test), best, epoch_of_best, time.perf_counter() - start)
