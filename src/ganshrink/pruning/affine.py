"""Norms with a scale to read or to act on, for methods that need one."""

from typing import Any

import torch
from torch import nn

from ganshrink.pruning.folding import copy_of


def add_affine(model: nn.Module) -> nn.Module:
    """A copy whose instance, batch and group norms all have a scale (1) and a shift (0). The function is the same."""
    double = copy_of(model)
    module: Any
    for module in double.modules():
        width = _width(module)
        if width and not module.affine:
            like = next((t for t in double.parameters() if t.is_floating_point()), torch.zeros(()))
            module.affine = True
            module.weight = nn.Parameter(torch.ones(width, dtype=like.dtype, device=like.device))
            module.bias = nn.Parameter(torch.zeros(width, dtype=like.dtype, device=like.device))
    return double


def _width(module: nn.Module) -> int:
    """Of a norm, the number of its channels; 0: not known yet, or no norm."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.num_features
    return module.num_channels if isinstance(module, nn.GroupNorm) else 0
