"""GAN Slimming's settings: what the paper and its released code leave open or differ in, and the paper's ablation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from ganshrink.methods.base import MethodConfig
from ganshrink.methods.original import Transforms
from ganshrink.quant import QuantConfig
from ganshrink.training import Schedule


@dataclass(frozen=True)
class Preset:
    """How the weights are optimised, in the search and in finetuning."""

    betas: tuple[float, float]
    weight_decay: float
    schedule: Schedule
    lr: float
    finetune_lr: float


PRESETS = {
    "code": Preset((0.5, 0.999), 1e-3, "cosine", lr=1e-5, finetune_lr=1e-4),
    # section 3.3; no rate is printed: this is CycleGAN's, whose settings the paper says it follows
    "paper": Preset((0.9, 0.5), 0.0, "linear_from_half", lr=2e-4, finetune_lr=2e-4),
}


@dataclass(frozen=True)
class Variant:
    """Which techniques are used, and when (section 4.2)."""

    narrow: bool = False  # start from a hand-made narrow student, distilled
    search: bool = True  # drive scales to zero
    search_distance: bool = True  # distil while searching
    finetune_distance: bool = True  # distil while finetuning
    quantize_last: bool = False  # quantize after all that, and finetune on the GAN loss alone


VARIANTS = {
    "gs": Variant(),
    "cp": Variant(search_distance=False, finetune_distance=False),
    "d": Variant(narrow=True, search=False),
    "d+cp": Variant(narrow=True, search_distance=False, finetune_distance=False),
    "cp+d": Variant(search_distance=False),
    "postq": Variant(quantize_last=True),
}


class GanSlimmingConfig(MethodConfig):
    """GAN Slimming's settings. The GAN loss, its weight and D are the task's."""

    name: Literal["gan_slimming"] = Field(
        default="gan_slimming", description="the method, as `ganshrink methods` lists them"
    )
    variant: Literal["gs", "cp", "d", "d+cp", "cp+d", "postq"] = Field(
        default="gs",
        description="gs: all in one; the paper's ablation: cp: pruning without distillation, d: a narrow student distilled, "
        "d+cp and cp+d: one after the other, postq: quantization after gs in float",
    )
    beta: float = Field(default=20, ge=0, description="weight of the distance to the teacher's image (Eq. 4)")
    distance: Literal["perceptual", "mse"] = Field(
        default="perceptual", description="d of Eq. 2: over VGG's features, or the ablation's pixels"
    )
    style_weight: float | None = Field(
        default=None,
        ge=0,
        description="weight of the Gram matrices in the perceptual distance; none: 1e5 with VGG-16, as in the released "
        "code, 1e3 with the normalised VGG-19",
    )
    vgg: Path = Field(
        default=Path("vgg19norm_relu3_1.safetensors"),
        description="VGG's weights, for the perceptual distance",
    )
    rho: float = Field(default=0.01, ge=0, description="weight of the L1 norm of the scales (Eq. 4)")
    adaptive_rho: bool = Field(
        default=False, description="steer rho so that what lives comes down to the budget during the search"
    )
    gamma_lr: float = Field(default=0.1, gt=0, description="eta: learning rate of the scales, on a cosine")
    gamma_momentum: float = Field(default=0.5, ge=0, lt=1, description="momentum of the scales")
    prune_trunk: bool = Field(
        default=False, description="also cut channels that several layers add up to, as in a residual trunk"
    )
    start: Literal["teacher", "fresh"] = Field(
        default="teacher", description="the search begins with the teacher's weights, or with new ones"
    )
    inherit_discriminator: bool = Field(
        default=True, description="begin with the teacher's discriminator, where there is one"
    )
    real: Literal["teacher", "photos"] = Field(
        default="teacher",
        description="what D sees as real: the teacher's images (code), or the target domain's (paper)",
    )
    pool: int = Field(default=50, ge=0, description="earlier images that D is shown again")
    quantization: QuantConfig | None = Field(
        default=None, description="few bits in training: a table (empty: GS-8, as in the paper); none: GS-32"
    )
    optimizer: Literal["code", "paper"] = Field(
        default="code",
        description="code: Adam (0.5, 0.999), rate 1e-5 (1e-4 in finetuning) on a cosine, decay 1e-3; paper: "
        "Adam (0.9, 0.5), rate 2e-4, falling linearly from half time",
    )
    lr: float | None = Field(default=None, gt=0, description="rate in the search; none: the optimizer's")
    finetune_lr: float | None = Field(default=None, gt=0, description="rate in finetuning; none: likewise")
    search_epochs: int | None = Field(
        default=None, ge=0, description="epochs of the search; none: as many as of finetuning"
    )
    width: float = Field(default=0.5, gt=0, le=1, description="share of a layer that d+cp's student keeps")
    floor: int = Field(default=1, ge=1, description="the least width of a layer outside the branches")
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this; none: 1, or for a budget in milliseconds what the "
        "device likes",
    )

    def transforms(self) -> Transforms:
        """Sparsity acts on the scales of norms: those without get some."""
        return {"affine": True}
