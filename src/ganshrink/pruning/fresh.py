"""The field's initialisation, for networks that start anew."""

from itertools import pairwise

import torch
from torch import nn

WEIGHT_STD = 0.02


def initialise(model: nn.Module) -> nn.Module:
    """Initialise in place: convolutions and linear layers N(0, 0.02) with bias 0, norms scale 1, shift 0 and their
    running statistics reset. Kernels whose outputs a pixel shuffle puts side by side start alike, so that no checkerboard is
    there from the start (Aitken et al. 2017). Raw parameters and other modules stay. All of them are to be trained. Returns
    the model."""
    trainable(model)
    alike = _side_by_side(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                drawn = torch.randn_like(module.weight) * WEIGHT_STD
                if module in alike:
                    drawn = drawn[:: alike[module]].repeat_interleave(alike[module], 0)
                # assigned, not filled: a parametrized weight then reaches its original
                module.weight = _like(module.weight, drawn)  # type: ignore[assignment]
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)):
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
                if module.weight is not None:
                    module.weight.fill_(1)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
    return model


def _side_by_side(model: nn.Module) -> dict[nn.Module, int]:
    """Convolutions in front of a pixel shuffle, and how many of their outputs in a row make one channel."""
    chains = [list(module) for module in model.modules() if isinstance(module, nn.Sequential)]
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    return {
        conv: shuffle.upscale_factor**2
        for conv, shuffle in pairs
        if isinstance(conv, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle)
    }


def trainable(model: nn.Module) -> nn.Module:
    """Let every parameter learn, in place: a teacher is often frozen, what is made of it must not be. Returns the model."""
    for parameter in model.parameters():
        if parameter.is_floating_point() or parameter.is_complex():  # integers have no gradients
            parameter.requires_grad_(True)
    return model


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    if isinstance(old, nn.Parameter):
        return old.copy_(new)  # the same object: shared weights stay shared
    return new
