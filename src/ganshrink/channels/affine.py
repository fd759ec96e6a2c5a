"""Norms with a scale to read, for methods that score by it."""

import torch
from torch import nn

from ganshrink.channels.folding import copy_of


def add_affine(model: nn.Module) -> nn.Module:
    """A copy whose instance and batch norms all have a scale (1) and a shift (0). The function is the same."""
    double = copy_of(model)
    for module in double.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and not module.affine and module.num_features:
            like = next((t for t in double.parameters() if t.is_floating_point()), torch.zeros(()))
            module.affine = True
            module.weight = nn.Parameter(
                torch.ones(module.num_features, dtype=like.dtype, device=like.device)
            )
            module.bias = nn.Parameter(torch.zeros(module.num_features, dtype=like.dtype, device=like.device))
    return double
