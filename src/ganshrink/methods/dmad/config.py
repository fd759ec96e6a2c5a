"""DMAD's settings. Where the paper is silent, or its released code differs: which of the two is the default, and what the
other one's value is."""

from typing import ClassVar, Literal

from pydantic import Field

from ganshrink.losses import Fusion
from ganshrink.methods.base import MethodConfig, Settings
from ganshrink.methods.original import Transforms
from ganshrink.pruning.search.masks import MaskShape


class SearchConfig(Settings):
    """How the small architecture is found (section III.B)."""

    width: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of every layer that the search begins with; the code's: 0.75 for Pix2Pix (48 of 64 channels) "
        "and its mobile form, 0.5 for mobile CycleGAN (32 of 64)",
    )
    mask: MaskShape = Field(
        default="quadratic",
        description="the mask between its boundaries (Eq. 3); linear: Table II's ablation",
    )
    lambda_spa: float = Field(
        default=0.001,
        ge=0,
        description="weight of the sparsity loss (Eq. 5); the paper's for CycleGAN, 0.01 for Pix2Pix; the code's mobile "
        "forms: 0.002 to 0.006",
    )
    group_sparsity: Literal["paper", "code", "none"] = Field(
        default="paper",
        description="weight of a mask in a residual sum: paper: members / members above 0 (Eq. 6); code: none at all once "
        "one member has reached 1; none: 1, Table III's ablation",
    )
    group_weight: float = Field(
        default=1,
        ge=0,
        description="factor on that weight; the code's: 5 for mobile CycleGAN, 2 for mobile Pix2Pix",
    )
    polarise: float = Field(
        default=0,
        ge=0,
        description="kappa: layers outside the residual part are drawn to the nearer boundary, this hard, instead of to 0; "
        "the code's: 100 with ResNets (mobile CycleGAN 200), 0 with U-Nets; not in the paper",
    )
    boundary_end: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of the search by which the boundary is 0 (Eq. 4); the code's: 0.75",
    )
    boundary_moves: int | None = Field(
        default=None,
        ge=1,
        description="in how many moves it gets there; none: one at every step, as in the paper; the code's: 150",
    )
    freeze_at: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="settle a layer outside of branches and sums once more than this share of it is 0, so that the rest "
        "stays; none: never; the code's, for U-Nets: 0.85, cityscapes 0.7, edges2shoes 0.8; not in the paper",
    )
    mask_lr: float | None = Field(
        default=None,
        gt=0,
        description="Adam's rate for the masks' inputs; none: that of the weights, as in the paper",
    )
    floor: int = Field(default=1, ge=1, description="the least width of a layer outside the branches")
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this; none: 1, or for a budget in milliseconds what the "
        "device likes",
    )


class DmadConfig(MethodConfig, SearchConfig):
    """DMAD's settings. GAN, cycle and reconstruction losses are the task's."""

    both_ways: ClassVar[bool] = True

    name: Literal["dmad"] = Field(default="dmad", description="the method, as `ganshrink methods` lists them")
    init: Literal["inherit", "fresh"] = Field(
        default="inherit",
        description="the student goes on with the searched weights and discriminator, or begins anew (Table IV's Scratch)",
    )
    ndf: int | None = Field(
        default=None,
        ge=1,
        description="width of a new discriminator beside the student (Table VII); none: the searched one goes on",
    )
    lambda_att: float = Field(
        default=0.0244,
        ge=0,
        description="weight of the co-attention loss (Eq. 9), a sum over pixels as in the paper; the code averages them: "
        "its 100 on maps of 64x64 is 100/4096 here; its 10 for Pix2Pix is 0.00244 there and 0.039 on 16x16",
    )
    attention_norm: Literal["sum", "mean"] = Field(
        default="sum",
        description="of Eq. 9 over pixels: the paper's sum, or the code's mean, for which its weights (100, and 10 for "
        "Pix2Pix) are made",
    )
    attention: Literal["sum", "mean"] = Field(
        default="sum",
        description="over channels, of squares (Eq. 7); the code's: mean, which matters only in Eq. 8",
    )
    fusion: Fusion = Field(
        default="sum",
        description="of the generator's and the discriminator's attention (Eq. 8); multiply, conv: Table V's ablation; "
        "none: the generator's alone (Table IV's G-Attention)",
    )
    judge_weight: float = Field(
        default=0.5,
        ge=0,
        description="of the discriminator's attention in that sum; the code's mobile Pix2Pix: 0.25",
    )
    judge_layers: int = Field(
        default=1,
        ge=1,
        description="how many layers of the discriminator: those nearest in size to the generator's taps (Table VI)",
    )
    judge_gradient: bool = Field(
        default=True,
        description="let the gradient reach the student through the discriminator's attention to its image too, as in the "
        "code; the paper does not say",
    )
    lambda_fea: float = Field(
        default=1e-4, ge=0, description="weight of the distance between the discriminator's features (Eq. 10)"
    )
    feature_norm: Literal["squared", "plain"] = Field(
        default="squared",
        description="of that distance: squared and averaged over images as in the paper, or the code's plain L2 norm of the "
        "whole batch",
    )
    taps: tuple[str, ...] | None = Field(
        default=None,
        description="modules of the generator whose attention is compared; none: four, evenly spaced along the widest "
        "group, of maps of at least 4x4; on a ResNet the paper's",
    )

    def transforms(self) -> Transforms:
        """Masks act on the scales of norms: those without get some."""
        return {"affine": True}
