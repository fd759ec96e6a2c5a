"""CAT's teacher (Jin et al. 2021, section 3.1): the residual generator with inception-based residual blocks."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ganshrink.nets.layers import Norm, Residual, head, needs_bias, norm_layer, padded_conv, stem

KERNELS = (1, 3, 5)


def conv_branch(
    inside: int, hidden: int, outside: int, kernel: int, norm: Norm, *, bias: bool, padding: str
) -> nn.Sequential:
    """k x k to `hidden` channels, norm (CAT's pruning handle), ReLU, k x k to `outside`."""
    return nn.Sequential(
        *padded_conv(inside, hidden, kernel, padding=padding, bias=bias),
        norm(hidden),
        nn.ReLU(),
        *padded_conv(hidden, outside, kernel, padding=padding, bias=bias),
    )


def depthwise_branch(
    inside: int,
    hidden: int,
    outside: int,
    kernel: int,
    norm: Norm,
    *,
    bias: bool,
    padding: str,
    second: Norm | None = None,
) -> nn.Sequential:
    """1 x 1 to `hidden` channels, norm (the handle), ReLU, depthwise k x k, norm, ReLU, 1 x 1 to `outside`.

    Args:
        second: the norm after the depthwise convolution; none: as the first.
    """
    return nn.Sequential(
        nn.Conv2d(inside, hidden, 1, bias=bias),
        norm(hidden),
        nn.ReLU(),
        *padded_conv(hidden, hidden, kernel, padding=padding, groups=hidden, bias=bias),
        (second or norm)(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, outside, 1, bias=bias),
    )


class BranchSum(nn.Module):
    """The sum of parallel branches over the same input."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.branches
        total = first(x)
        for branch in rest:
            total = total + branch(x)
        return total


def six_branches(
    inside: int, hidden: int, outside: int, norm: Norm, *, second: Norm | None = None, **options: Any
) -> BranchSum:
    """Three dense and three depthwise branches of kernels 1, 3 and 5, summed."""
    dense = [conv_branch(inside, hidden, outside, k, norm, **options) for k in KERNELS]
    deep = [depthwise_branch(inside, hidden, outside, k, norm, second=second, **options) for k in KERNELS]
    return BranchSum([*dense, *deep])


def incres_block(width: int, norm: Norm, *, bias: bool, padding: str = "reflect") -> Residual:
    """Six branches, summed, normalised, added to the input.

    Each branch is `width // 6` wide, so that the six together cost about what a plain residual block does (Fig. 2).
    """
    hidden = width // (2 * len(KERNELS))
    if hidden < 1:
        raise ValueError(
            f"ngf = {width // 4}: blocks {width} wide leave no channel for each of six branches; at least 2"
        )
    branches = six_branches(width, hidden, width, norm, bias=bias, padding=padding)
    return Residual(nn.Sequential(branches, norm(width)))


class IncRes(nn.Module):
    """The generator whose blocks hold every smaller generator that CAT may choose.

    Norms are affine, since their scales are what one-step pruning reads. Shapes, `upsample` and
    `padding` are those of `ResNet`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        upsample: str = "transposed",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=True), needs_bias(norm)
        same: dict[str, Any] = {"bias": bias, "padding": padding}
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, **same))
        self.blocks = nn.Sequential(*(incres_block(4 * ngf, make_norm, **same) for _ in range(blocks)))
        self.up = nn.Sequential(*head(ngf, out_channels, make_norm, upsample=upsample, **same))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))
