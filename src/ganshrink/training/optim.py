"""The optimizers and the learning rate schedules of the field."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

from torch import nn
from torch.optim import SGD, Adam, Optimizer

Schedule = Literal["linear", "cosine", "linear_from_half"]
Made = TypeVar("Made", bound=Optimizer)


def adam(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    weight_decay: float = 0.0,
    schedule: Schedule = "linear",
) -> Adam:
    """Adam as every image-to-image GAN since DCGAN uses it."""
    return _scheduled(Adam(params, lr=lr, betas=betas, weight_decay=weight_decay), schedule)


def sgd(
    params: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.0, schedule: Schedule = "linear"
) -> SGD:
    """Gradient descent, as proximal methods want it."""
    return _scheduled(SGD(params, lr=lr, momentum=momentum), schedule)


def decay_factor(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """The field's schedule: 1, then linearly towards 0, which it would reach one epoch after the last.

    Args:
        epoch: counted from 0.
        epochs: how many epochs the factor stays 1.
        decay_epochs: how many it falls; the last one's factor is `1 / (decay_epochs + 1)`.
    """
    return max(0.0, 1 - max(0, epoch + 1 - epochs) / (decay_epochs + 1))


def cosine_factor(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """Half a cosine from 1 in the first epoch towards 0 after the last (Loshchilov and Hutter 2017, without restarts)."""
    total = max(1, epochs + decay_epochs)
    return (1 + math.cos(math.pi * min(epoch, total) / total)) / 2


def linear_from_half_factor(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """1 in the first half of all epochs, then linearly to 0 after the last (GAN Slimming, section 3.3)."""
    total = max(1, epochs + decay_epochs)
    return max(0.0, min(1.0, 2 * (1 - epoch / total)))


FACTORS: dict[Schedule, Callable[..., float]] = {
    "linear": decay_factor,
    "cosine": cosine_factor,
    "linear_from_half": linear_from_half_factor,
}


def set_learning_rate(optimizers: Sequence[Optimizer], epoch: int, *, epochs: int, decay_epochs: int) -> None:
    """Every group's rate becomes its schedule's factor in an epoch times the one it was made with, kept as `initial_lr` as
    in torch's schedulers."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            factor = FACTORS[group.get("schedule", "linear")]
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor(
                epoch, epochs=epochs, decay_epochs=decay_epochs
            )


def _scheduled(optimizer: Made, schedule: Schedule) -> Made:
    for group in optimizer.param_groups:
        group["schedule"] = schedule
    return optimizer
