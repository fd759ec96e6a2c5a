"""Weights under which every channel shows in the output. A branch behind a scale of zero, or an early layer of a deep
network whose weights are small, would hide what a trial cut does wrong until the weights are trained."""

import math
from collections.abc import Callable

import torch
from torch import nn

FAINT = 0.1  # scales and shifts up to here are lifted


@torch.no_grad()
def use_probe_weights(plain: nn.Module) -> Callable[[], None]:
    """Give it, in place, weights that keep the size of a signal (He et al. 2015), and scales and shifts that are neither
    zero nor all alike. Returns what takes it back."""
    generator = torch.Generator().manual_seed(0)
    asleep = [(p, p.data) for p in plain.parameters() if p.is_floating_point() and p.numel()]
    for parameter, tensor in asleep:
        parameter.data = _awake(tensor, generator)

    def back() -> None:
        for parameter, tensor in asleep:
            parameter.data = tensor

    return back


def _awake(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if sum(size > 1 for size in tensor.shape) < 2:
        alike = bool((tensor == tensor.flatten()[0]).all())
        if alike or float(tensor.abs().max()) < FAINT:
            return tensor + 0.1 + 0.4 * torch.rand(tensor.shape, generator=generator).to(tensor)
        return tensor
    wanted, held = math.sqrt(2 * tensor.shape[0] / tensor.numel()), float(tensor.std())
    if held == 0:
        return wanted * torch.randn(tensor.shape, generator=generator).to(tensor)
    return tensor * max(1.0, wanted / held)
