"""The optimizer and the learning rate schedule of the field."""

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import Adam, Optimizer


def adam(
    params: Iterable[nn.Parameter], *, lr: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)
) -> Adam:
    """Adam as every image-to-image GAN since DCGAN uses it."""
    return Adam(params, lr=lr, betas=betas)


def decay_factor(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """The learning rate's factor in an epoch: 1, then linearly towards 0, which it would reach one epoch after the last.

    Args:
        epoch: counted from 0.
        epochs: how many epochs the factor stays 1.
        decay_epochs: how many it falls; the last one's factor is `1 / (decay_epochs + 1)`.
    """
    return max(0.0, 1 - max(0, epoch + 1 - epochs) / (decay_epochs + 1))


def set_learning_rate(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Every group's rate becomes `factor` times the one it was made with, kept as `initial_lr` as in torch's schedulers."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
