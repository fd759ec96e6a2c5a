"""Batch norm over the batches of all processes, on any device (torch's SyncBatchNorm needs a GPU), or counted anew."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganshrink.system.distributed import rank_and_world, sum_over_processes
from ganshrink.system.generator import Input, as_tuple


@contextmanager
def shared_batch_statistics(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block the nets' batch norms see the batches of all processes as one, and note the same running
    statistics in each. Every process must run them equally often, on batches of one size.

    The modules stay what they are, with another `forward` for the time: structure and state are theirs alone.
    """
    norms: list[nn.Module] = []
    if rank_and_world()[1] > 1:
        norms = list({id(m): m for net in nets for m in net.modules() if sees_its_batch(m)}.values())
    for norm in norms:
        norm.forward = MethodType(_forward, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def sees_its_batch(module: nn.Module) -> bool:
    """Whether a module is a batch norm as torch's: one with a forward of its own may have fixed statistics."""
    return isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training and norm.running_mean is not None:
        return type(norm).forward(norm, x)
    world = rank_and_world()[1]
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    variances, means = torch.var_mean(values, [d for d in range(x.ndim) if d != 1], correction=0)
    mean = sum_over_processes(means) / world
    # Not E[x^2] - E[x]^2, which cancels where the mean is large.
    variance = sum_over_processes(variances + (means - mean).square()) / world
    if norm.training and norm.running_mean is not None:
        _note(norm, mean.detach(), variance.detach(), world * x.numel() // x.shape[1])
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    each = (1, -1, *[1] * (x.ndim - 2))
    return (values * scale.view(each) + shift.view(each)).to(x.dtype)


@torch.no_grad()
def _note(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Running statistics as torch keeps them: the variance without bias, and a plain average without a momentum."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), share)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Input]) -> nn.Module:
    """Count the running statistics of a network's batch norms anew, in place: the plain mean over these batches.

    A network cut out of another, or trained in part, computes other activations than those that its statistics are of.
    Training flags and momenta stay; a network without running statistics is left alone, its batches not read.

    Args:
        batches: inputs (B, C, H, W), or tuples of them for a generator of several.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return network
    flags, momenta = [(m, m.training) for m in network.modules()], [norm.momentum for norm in norms]
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
            norm.train()
        for inputs in batches:
            network(*as_tuple(inputs))
    finally:
        for module, training in flags:
            module.training = training
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return network
