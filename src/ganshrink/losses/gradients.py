"""Losses of gradients, which regularise unconditional GANs."""

import math

import torch
from torch import Tensor


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """R1 without its weight (Mescheder et al. 2018, Eq. 9): the squared length of a discriminator's gradient at each image,
    a mean over images.

    Args:
        scores: of the images (B, C, H, W), which require gradients; of any shape.
    """
    [slope] = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return slope.float().square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """(B,) how far images move with their styles in a random direction of theirs (Karras et al. 2020, Eq. 4): the length of
    J^T y, for y of normal numbers, divided by the root of how many pixels an image has.

    Args:
        images: (B, C, H, W), made of `styles` (B, N).
    """
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    [slope] = torch.autograd.grad((images * noise).float().sum(), styles, create_graph=True)
    return slope.float().square().sum(1).sqrt()
