"""GAN Slimming's settings: what the paper and its released code leave open or differ in, and the paper's ablation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from ganshrink.methods.base import Floor, MaskingConfig, MethodName, RoundTo, Settings
from ganshrink.methods.original import Transforms
from ganshrink.quant import QuantConfig

Part = Literal["d", "rho", "q"]
"""A part of Eq. 4 beside the GAN loss: d, the distance to the teacher's images; rho, the L1 norm of the scales; q, few bits
where these are asked for."""
VARIANTS: Mapping[str, Mapping[str, set[Part]]] = {
    # Stages in order, and what each optimises: the paper's method, then its ablation (section 4.2).
    "gs": {"search": {"d", "rho", "q"}, "finetune": {"d", "q"}},
    "cp": {"search": {"rho", "q"}, "finetune": {"q"}},
    "d": {"narrow": {"d", "q"}},
    "d+cp": {"narrow": {"d"}, "search": {"rho", "q"}, "finetune": {"q"}},
    "cp+d": {"search": {"rho", "q"}, "finetune": {"d", "q"}},
    "postq": {"search": {"d", "rho"}, "finetune": {"d"}, "quantize": {"q"}},
}
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {  # Adam's settings
    "code": {"betas": (0.5, 0.999), "weight_decay": 1e-3, "schedule": "cosine"},
    "paper": {"betas": (0.9, 0.5), "schedule": "linear_from_half"},  # section 3.3
}
RATES = {  # in the search, and in the other stages
    "code": (1e-5, 1e-4),
    "paper": (2e-4, 2e-4),  # not printed: CycleGAN's, whose settings the paper says it follows
}

Rate: Any = Field(
    default=None,
    gt=0,
    description="Adam's; none: task.lr where that is not its default, else the optimizer's",
)
BatchSize: Any = Field(
    default=None,
    ge=1,
    description="images a step; none: student.batch_size (the code: 8 in the search, 16 in finetuning)",
)


class NarrowConfig(Settings):
    """The hand-made student of variants d and d+cp."""

    width: float = Field(default=0.5, gt=0, le=1, description="share of a layer that d+cp's student keeps")
    loss: Literal["gd", "gs"] = Field(
        default="gd",
        description="what draws it to the teacher; gd: the L1 distances of images (task.lambda_recon) and of the teacher's "
        "D's features, as Chen et al. 2020 have it; gs: this method's own distance",
    )
    lambda_feature: float = Field(
        default=10, ge=0, description="weight of the features with loss = 'gd'; not in the paper"
    )
    lambda_triplet: float = Field(
        default=0,
        ge=0,
        description="weight of D's triplet loss with loss = 'gd', which draws D's features of photos to those of the "
        "teacher's images and away from the student's; needs images of the target domain; 0: none",
    )
    triplet_margin: float = Field(
        default=1, ge=0, description="by how much the student's are to be further; not in the paper"
    )
    lr: float | None = Rate
    batch_size: int | None = BatchSize


class SearchConfig(Settings):
    """All of Eq. 4 (section 3.2)."""

    revive: bool = Field(
        default=True,
        description="a scale may leave zero again, as Eq. 13 has it; false: a channel that died is silent from then on",
    )
    fixed_discriminator: bool = Field(
        default=False, description="D stays the teacher's in the search: what the ablation says of CEC"
    )

    rho: float = Field(default=0.01, ge=0, description="weight of the L1 norm of the scales (Eq. 4)")
    adaptive_rho: bool = Field(
        default=False, description="steer rho so that what lives comes down to the budget during the search"
    )
    gamma_lr: float = Field(default=0.1, gt=0, description="eta: learning rate of the scales, on a cosine")
    gamma_momentum: float = Field(default=0.5, ge=0, lt=1, description="momentum of the scales")
    start: Literal["teacher", "fresh"] = Field(
        default="teacher", description="the search begins with the teacher's weights, or with new ones"
    )
    lr: float | None = Rate
    batch_size: int | None = BatchSize
    epochs: int | None = Field(
        default=None, ge=0, description="epochs of the search; none: as many as of finetuning"
    )
    floor: Floor = 1


class FinetuneConfig(Settings):
    """What is left of the network, trained on."""

    lr: float | None = Rate
    batch_size: int | None = BatchSize
    round_to: RoundTo = None


class GanSlimmingConfig(MaskingConfig):
    """GAN Slimming's settings. The GAN loss, its weight and D are the task's."""

    renamed: ClassVar[Mapping[str, Sequence[str]]] = {
        "lr": ("search.lr",),
        "finetune_lr": ("finetune.lr", "narrow.lr"),
        "search_epochs": ("search.epochs",),
    }

    name: Annotated[Literal["gan_slimming"], MethodName] = "gan_slimming"
    variant: Literal["gs", "cp", "d", "d+cp", "cp+d", "postq"] = Field(
        default="gs",
        description="gs: all in one; the paper's ablation: cp: pruning by the GAN loss without a teacher, d: a narrow "
        "student distilled by narrow.loss, d+cp and cp+d: one after the other, postq: quantization after gs in float",
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
    prune_trunk: bool = Field(
        default=False, description="also cut channels that several layers add up to, as in a residual trunk"
    )
    inherit_discriminator: bool = Field(
        default=True, description="begin with the teacher's discriminator, where there is one"
    )
    real: Literal["teacher", "photos"] | None = Field(
        default=None,
        description="what D sees as real: the teacher's images (code), or the target domain's (paper); none: the teacher's, "
        "but in stages of the ablation without distillation the target domain's where the data have one",
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
    narrow: NarrowConfig = NarrowConfig()
    search: SearchConfig = SearchConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    def transforms(self) -> Transforms:
        """Sparsity acts on the scales of norms: those without get some."""
        return {"affine": True}

    @property
    def stages(self) -> Mapping[str, set[Part]]:
        """The variant's stages, and the parts of Eq. 4 that each optimises."""
        return VARIANTS[self.variant]

    def table(self, stage: str) -> NarrowConfig | SearchConfig | FinetuneConfig:
        """The settings of a stage; those of finetuning are also those of what comes after it."""
        tables: Any = {"narrow": self.narrow, "search": self.search}
        return tables.get(stage, self.finetune)  # type: ignore[no-any-return]

    def adam(self, stage: str, task: BaseModel) -> dict[str, Any]:
        """Adam's settings in a stage, for `training.adam`: the optimizer's, but for those of the task that are not its
        defaults, and for the stage's own rate."""
        search, other = RATES[self.optimizer]
        preset = OPTIMIZERS[self.optimizer]
        own = {name: getattr(task, name) for name in ("lr", "beta1", "beta2") if changed(task, name)}
        rate = self.table(stage).lr or own.get("lr") or (search if stage == "search" else other)
        betas = tuple(own.get(f"beta{n}", beta) for n, beta in enumerate(preset["betas"], 1))
        return {**preset, "lr": rate, "betas": betas}


def changed(settings: BaseModel, name: str) -> bool:
    """Whether a setting is there, and not at its default: a recipe that a run has written names all of them."""
    field = type(settings).model_fields.get(name)
    return field is not None and getattr(settings, name) != field.default
