"""UGC's settings. The paper gives few of them: where it is silent, the description says so."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from ganshrink.methods.base import MethodConfig, MethodName, Settings, WidthSettings
from ganshrink.methods.original import Transforms
from ganshrink.metrics.judge import Fitness


class SupernetConfig(WidthSettings):
    """Stage 1: the search space, and how its supernet is trained (section 3.1)."""

    steps: int = Field(
        default=8, ge=1, description="widths are 1, 2, .. of so many parts of a layer; the paper's 8"
    )
    unlabelled: bool = Field(
        default=True,
        description="subnets learn from unlabelled images (Eq. 5); false: from the labelled ones' inputs (Table 3's w/o "
        "NAS-SSL)",
    )
    subnet_weight: float = Field(
        default=1, gt=0, description="of the subnets' losses beside the largest network's; not in the paper"
    )
    sampling: Literal["uniform", "fair"] = Field(
        default="uniform",
        description="of the random subnet: uniform: each width and depth by itself; fair: each width of a layer once in as "
        "many steps as there are, and so each depth",
    )


class SearchConfig(Settings):
    """The evolutionary search of the student and its teachers (section 3.2)."""

    fitness: Fitness = Field(
        default="auto",
        description="by what subnets are compared: miou, fd_squeezenet, kd_squeezenet, fid, kid, or agreement with the "
        "largest network; auto: the first of these that metrics.names has and the data allow",
    )
    population: int = Field(default=100, ge=1, description="subnets in a generation (GAN Compression's)")
    generations: int = Field(
        default=20, ge=1, description="of the search; GAN Compression has up to 500 (the paper is silent)"
    )
    parents: float = Field(default=0.25, gt=0, le=1, description="share of a population that breeds")
    mutation: float = Field(default=0.2, ge=0, le=1, description="how likely a width or depth is drawn anew")
    band: float = Field(
        default=0.9, ge=0, le=1, description="the student's least share of its budget; not in the paper"
    )
    teacher_ratio: float = Field(default=20, ge=1, description="MACs of the teachers over the student's")
    teacher_tolerance: float = Field(
        default=0.25, ge=0, lt=1, description="by how much that may be off; not in the paper"
    )
    calibration_images: int = Field(
        default=512, ge=1, description="on which a subnet's batch norms are counted before it is scored"
    )


class FinetuneConfig(Settings):
    """Stage 2: adaptive online semi-supervised distillation (section 3.2)."""

    calibration_images: int = Field(
        default=512, ge=1, description="on which the student's batch norms are counted before it learns"
    )
    teachers_every: int = Field(
        default=3, ge=1, description="n: teachers and D learn at each so many-th step; OMGD's 3 or 1"
    )
    shared_layers: int = Field(
        default=5,
        ge=0,
        description="convolutions of the discriminator that both teachers share; the others are each one's own. OMGD's: 5 "
        "(all of them) with U-Nets, 3 or 4 with ResNets",
    )
    wide_ratio: float = Field(
        default=4,
        ge=1,
        description="without a search: how many times as wide as the student the wide teacher is in every layer, at most as "
        "the original (OMGD's)",
    )
    unlabelled: bool = Field(
        default=True, description="the student learns from unlabelled images too (Eq. 9; w/o Finetune-SSL)"
    )
    filter: Literal["realness", "printed", "none"] = Field(
        default="realness",
        description="which unlabelled images always count (Eq. 8): those that D rates no lower than generated ones on "
        "average; printed: those below it, as the paper has it; none: all. Others count every second time",
    )
    ema: float = Field(default=0.99, ge=0, lt=1, description="decay of that average; not in the paper")
    filter_after: int = Field(default=100, ge=0, description="steps before it begins; not in the paper")
    lambda_cd: float = Field(
        default=0,
        ge=0,
        description="weight of OMGD's channel distillation from the wide teacher (its code: 50 on cityscapes, 10 on "
        "edges2shoes with U-Nets); UGC has none",
    )
    taps: tuple[str, ...] | None = Field(
        default=None, description="layers for that; none: four, evenly spaced along the widest group"
    )


class UgcConfig(MethodConfig):
    """UGC's settings. GAN and reconstruction losses are the task's.

    The weights of L_OD, the online distillation loss of both stages, are those of OMGD's released code (see
    losses/online_distillation.py); as the papers print them, style and feature would be exchanged.
    """

    renamed: ClassVar[Mapping[str, Sequence[str]]] = {
        "search": ("nas",),
        "search_unlabelled": ("supernet.unlabelled",),
        "finetune_unlabelled": ("finetune.unlabelled",),
    }

    name: Annotated[Literal["ugc"], MethodName] = "ugc"
    nas: bool = Field(
        default=True,
        description="train a supernet and search it; false: no stage 1, but uniform widths and fresh weights (Table 4's w/o "
        "NAS; with finetune.unlabelled = false this is OMGD)",
    )
    lambda_ssim: float = Field(default=10, ge=0, description="weight of 1 - SSIM")
    lambda_style: float | None = Field(
        default=None,
        ge=0,
        description="weight of the Gram matrices' distance; none: 1e4 with VGG-16, as in OMGD's code, 500 with the "
        "normalised VGG-19, whose features are larger",
    )
    lambda_feature: float | None = Field(
        default=None, ge=0, description="of the distance at relu2_2; none: 10 with VGG-16, 2 with that VGG-19"
    )
    lambda_tv: float = Field(default=1e-5, ge=0, description="of the total variation, a sum over a batch")
    vgg: Path = Field(
        default=Path("vgg19norm_relu3_1.safetensors"),
        description="VGG's weights, torchvision's VGG-16 or the normalised VGG-19; read only where style or feature counts",
    )
    extra_blocks: int = Field(
        default=2,
        ge=0,
        description="residual blocks inserted after every layer that changes the image's size; 0 to all of them run. The "
        "paper inserts 3 and gives depths 0, 1, 2",
    )
    search_images: int = Field(
        default=200,
        ge=1,
        description="training images kept out of both stages to score subnets on: unlabelled ones, or pairs where these are "
        "too few; at most a fifth of what there is; 200 as in GAN Compression",
    )
    supernet: SupernetConfig = SupernetConfig()
    search: SearchConfig = SearchConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    def for_trial(self) -> tuple[Self, Mapping[str, float]]:
        search = self.search
        few = search.model_copy(update={"population": min(4, search.population), "generations": 1})
        longer = search.population * search.generations / (few.population * few.generations)
        return self.model_copy(update={"search": few}), {"search": longer}

    def transforms(self) -> Transforms:
        """The inserted blocks."""
        return {"extra_blocks": self.extra_blocks} if self.extra_blocks else {}
