"""Global Kernel Alignment (Jin et al. 2021, "Teachers Do More Than Teach", Eqs. 1-2), and what the released code computes.

Both compare features up to an orthogonal mixing of channels and a scale, so that widths may differ. Always in float32:
the entries of a Gram matrix over all pixels overflow half precision.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

Alignment = Literal["global", "batch"]
Total = Callable[[Tensor], Tensor]
"""The sum of equally shaped tensors, one from each process, differentiable."""


def kernel_alignment(
    x: Tensor,
    y: Tensor,
    *,
    mode: Alignment = "global",
    centered: bool = False,
    total: Total = lambda own: own,
) -> Tensor:
    """How alike two feature maps are, from 0 (nothing in common, or one of them all zero) to 1 (equal up to mixing).

    Args:
        x: features (N, C, H, W).
        y: features (N, C', H, W) of the same images at the same size; C' may differ from C.
        mode: `global`, the paper's GKA: each pixel of each image is a row, X is (N*H*W, C), and
            GKA = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F). `batch`, the released code's: each image is a row,
            X is (N, C*H*W), and the same ratio is taken of the two N x N Gram matrices.
        centered: subtract each column's mean first. Neither the paper nor its code does.
        total: adds up over the processes that share a batch. `global` is then the index of all their images, the same
            in each process: its Gram matrices are sums over rows. `batch` stays that of a process's own images, since
            its Gram matrices hold products of every pair of images.

    Returns:
        A float32 scalar. The distillation loss is its negative, summed over taps.

    Raises:
        ValueError: for features that do not belong together, or for `batch` with a single image, where the ratio is
            1 whatever the features are and nothing would be learned.
    """
    if x.ndim != 4 or y.ndim != 4 or x.shape[0] != y.shape[0] or x.shape[2:] != y.shape[2:]:
        raise ValueError(
            "kernel alignment compares (N, C, H, W) features of the same images at the same size,"
            f" got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    with torch.autocast(x.device.type, enabled=False):
        if mode == "global":
            a, b = (_scaled(_pixels(z), centered, total) for z in (x, y))
            inner = vector_norm(total(b.T @ a)).square()
            outer = vector_norm(total(a.T @ a)) * vector_norm(total(b.T @ b))
        elif mode == "batch":
            if x.shape[0] == 1:
                raise ValueError(
                    "batch alignment is constantly 1 at batch size 1: use a larger batch, or the paper's mode 'global'"
                )
            a, b = (_scaled(z.float().flatten(1), centered, lambda own: own) for z in (x, y))
            gram_a, gram_b = a @ a.T, b @ b.T
            inner = (gram_a * gram_b).sum()
            outer = vector_norm(gram_a) * vector_norm(gram_b)
        else:
            raise ValueError(f"mode must be global or batch, got {mode!r}")
        return inner / torch.where(outer > 0, outer, 1)  # all-zero features: 0, with a zero gradient


def _pixels(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N*H*W, C). A bare view would mix channels with places."""
    return features.float().permute(0, 2, 3, 1).flatten(0, 2)


def _scaled(rows: Tensor, centered: bool, total: Total) -> Tensor:
    """Rows over their largest entry. The ratio does not see a constant factor; fourth powers overflow without it."""
    if centered:
        rows = rows - total(rows.sum(0)) / total(rows.new_tensor(len(rows)))
    largest = total(rows.detach().abs().amax())  # over several processes a bound, and the same in each
    return rows / torch.where(largest > 0, largest, 1)
