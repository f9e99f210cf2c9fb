"""One seed of one task: train, choose by the validation set, look once at the test set."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

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
    loss = F.cross_entropy(scores, labels, label_smoothing=task.label_smoothing if training else 0.0)
    return loss if task.extra is None else loss + task.extra(scores, labels)


@torch.no_grad()
def accuracy(net: nn.Module, task: Task, part: Part) -> float:
    """The share of right answers, in percent."""
    net.eval()
    scores, labels = scores_and_labels(net, task, part, training=False)
    net.train()
    return 100 * (scores.argmax(1) == labels).float().mean().item()


def running_mean(net: nn.Module, decay: float) -> AveragedModel:
    """A copy of `net` for the running mean of its weights, in which the first steps count alike."""
    return AveragedModel(net, avg_fn=lambda mean, weight, n: mean.lerp(weight, max(1 - decay, 1 / (int(n) + 1))))


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
    mean = running_mean(net, task.average)
    best, epoch_of_best, kept = -1.0, 0, {}
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(parts.train.x)).split(task.batch):
            optimizer.zero_grad()
            loss_of(net, task, taken(parts.train, index)).backward()
            if task.clip is not None:
                nn.utils.clip_grad_value_(net.parameters(), task.clip)
            optimizer.step()
            scheduler.step()
            mean.update_parameters(net)
        if (found := accuracy(mean.module, task, parts.validation)) >= best:
            best, epoch_of_best = found, epoch
            kept = {name: value.clone() for name, value in mean.module.state_dict().items()}
    net.load_state_dict(kept)
    return Outcome(accuracy(net, task, parts.test), best, epoch_of_best, time.perf_counter() - start)
