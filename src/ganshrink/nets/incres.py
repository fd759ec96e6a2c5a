"""CAT's teacher (Jin et al. 2021, section 3.1): the residual generator with inception-based residual blocks."""

from collections.abc import Sequence

from torch import Tensor, nn

from ganshrink.nets.layers import Norm, Residual, head, needs_bias, norm_layer, stem

KERNELS = (1, 3, 5)


def conv_branch(width: int, hidden: int, kernel: int, norm: Norm, *, bias: bool) -> nn.Sequential:
    """k x k to `hidden` channels, norm (CAT's pruning handle), ReLU, k x k back."""
    return nn.Sequential(
        *_reflect(kernel),
        nn.Conv2d(width, hidden, kernel, bias=bias),
        norm(hidden),
        nn.ReLU(),
        *_reflect(kernel),
        nn.Conv2d(hidden, width, kernel, bias=bias),
    )


def depthwise_branch(width: int, hidden: int, kernel: int, norm: Norm, *, bias: bool) -> nn.Sequential:
    """1 x 1 to `hidden` channels, norm (the handle), ReLU, depthwise k x k, norm, ReLU, 1 x 1 back."""
    return nn.Sequential(
        nn.Conv2d(width, hidden, 1, bias=bias),
        norm(hidden),
        nn.ReLU(),
        *_reflect(kernel),
        nn.Conv2d(hidden, hidden, kernel, groups=hidden, bias=bias),
        norm(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, width, 1, bias=bias),
    )


def _reflect(kernel: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d((kernel - 1) // 2)] if kernel > 1 else []


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


def incres_block(width: int, norm: Norm, *, bias: bool) -> Residual:
    """Six branches (three dense, three depthwise; kernels 1, 3, 5), summed, normalised, added to the input.

    Each branch is `width // 6` wide, so that the six together cost about what a plain residual block does (Fig. 2).
    """
    hidden = width // (2 * len(KERNELS))
    if hidden < 1:
        raise ValueError(
            f"ngf = {width // 4}: blocks {width} wide leave no channel for each of six branches; at least 2"
        )
    branches = [conv_branch(width, hidden, k, norm, bias=bias) for k in KERNELS]
    branches += [depthwise_branch(width, hidden, k, norm, bias=bias) for k in KERNELS]
    return Residual(nn.Sequential(BranchSum(branches), norm(width)))


class IncRes(nn.Module):
    """The generator whose blocks hold every smaller generator that CAT may choose.

    Norms are affine, since their scales are what one-step pruning reads. Shapes are those of `ResNet`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 9,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=True), needs_bias(norm)
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, bias=bias))
        self.blocks = nn.Sequential(*(incres_block(4 * ngf, make_norm, bias=bias) for _ in range(blocks)))
        self.up = nn.Sequential(*head(ngf, out_channels, make_norm, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))
