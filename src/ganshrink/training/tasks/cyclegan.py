"""CycleGAN (Zhu et al. 2017) for any generator: two generators, one each way, on unpaired images.

A student goes one way only, and learns from pairs that its teacher makes (as in GAN Compression and CAT).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ganshrink.losses import GanMode, discriminator_loss, generator_loss
from ganshrink.pruning import initialise
from ganshrink.system.copies import copied
from ganshrink.training import Context, Forward, Taps, Update
from ganshrink.training.tasks.generator_pass import GeneratorPass
from ganshrink.training.tasks.paired import PairedConfig, PairedLearning
from ganshrink.training.tasks.pool import ImagePool
from ganshrink.training.tasks.task import (
    TASK_NAMES,
    Direction,
    DNorm,
    Nets,
    RealImages,
    Target,
    Term,
    adam_of,
    joined,
    new_discriminator,
)


class CycleGANConfig(PairedConfig):
    """The paper's settings, and CAT's for students."""

    name: Literal["cyclegan"] = Field(
        default="cyclegan",
        description=TASK_NAMES,
    )
    gan_mode: GanMode = Field(default="lsgan", description="hinge, lsgan (the paper's) or vanilla")
    lambda_gan: float = Field(default=1, gt=0, description="weight of the generators' GAN losses")
    lambda_cycle: float = Field(default=10, ge=0, description="weight of both cycle losses (Eq. 3)")
    lambda_identity: float = Field(
        default=0.5, ge=0, description="weight of the identity losses (section 5.2), times lambda_cycle"
    )
    lambda_recon: float = Field(
        default=5, ge=0, description="of a student: weight of the L1 distance to its teacher's image"
    )
    pool_size: int = Field(default=50, ge=0, description="earlier fakes that D is shown (section 4)")
    d_norm: DNorm = Field(
        default="instance", description="D's norm; instance_affine: one with scale and shift"
    )


@dataclass
class CycleContext(Context):
    """What one step knows. A is the data's `input`, B its `target`; each image is made once, when first asked for."""

    nets: Nets
    teachers: Mapping[str, nn.Module]
    taps: Mapping[str, Taps]

    @property
    def a(self) -> Tensor:
        return self.batch["input"]

    @property
    def b(self) -> Tensor:
        return self.batch["target"]

    @cached_property
    def ways(self) -> Mapping[str, GeneratorPass]:
        """Both generators, each at work on the real images that it starts from; its judge sees images alone."""
        return {"G_A": self._way("A", self.a), "G_B": self._way("B", self.b)}

    @property
    def fake_b(self) -> Tensor:
        return self.ways["G_A"].fake

    @property
    def fake_a(self) -> Tensor:
        return self.ways["G_B"].fake

    def _way(self, way: str, images: Tensor) -> GeneratorPass:
        tapped = {"G": f"G_{way}", "teacher": f"teacher_{way}"}
        taps = {net: self.taps[name] for net, name in tapped.items() if name in self.taps}
        return GeneratorPass(self.nets[f"G_{way}"], images, self.teachers.get(f"G_{way}"), taps)

    def cycle(self) -> tuple[Tensor, Tensor]:
        """How far A and B are from themselves after a way there and back (Eq. 2, its two halves)."""
        back_a, back_b = self.nets["G_B"](self.fake_b), self.nets["G_A"](self.fake_a)
        return l1_loss(back_a.float(), self.a.float()), l1_loss(back_b.float(), self.b.float())

    def identity(self) -> tuple[Tensor, Tensor]:
        """How much a generator changes an image that is of its target domain already (section 5.2)."""
        same_b, same_a = self.nets["G_A"](self.b), self.nets["G_B"](self.a)
        return l1_loss(same_b.float(), self.b.float()), l1_loss(same_a.float(), self.a.float())


@dataclass(frozen=True)
class CycleGAN:
    """CycleGAN: two generators, one each way, on two unpaired sets of images.

    Data: unpaired `input` and `target` (B, 3, H, W) in [-1, 1].

    Nets have the names of the field: G_A goes from input to target and D_A judges what it makes; G_B and D_B go back.

    Attributes:
        teachers: trained generators that look on without gradients, as "G_A" and "G_B"; either may be missing.
    """

    Config: ClassVar[type[BaseModel]] = CycleGANConfig
    needs: ClassVar[frozenset[str]] = frozenset({"target"})
    needs_teacher: ClassVar[bool] = False
    both_ways: ClassVar[bool] = True
    student_settings: ClassVar[frozenset[str]] = frozenset({"lambda_recon"})

    config: CycleGANConfig = field(default_factory=CycleGANConfig)
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return tuple(self.teachers.values())

    def as_student_task(
        self, teacher: nn.Module, *, target: Target | None = None, real: RealImages | None = None
    ) -> PairedLearning:
        """See `Task.as_student_task`. The student has no cycle and no pool; its judge sees images alone.

        Raises:
            ValueError: for target="truth": unpaired data have none.
        """
        if target == "truth":
            raise ValueError("unpaired data have no true target for a student: use target='teacher'")
        shared = self.config.model_dump(include=set(PairedConfig.model_fields))
        return PairedLearning(PairedConfig(**shared), teacher, "teacher", real or "photos", conditional=False)

    def with_teachers(self, teachers: Nets) -> Self:
        """See `Task.with_teachers`; teachers are "G_A" and "G_B", and either may be missing. The cycle stays."""
        return replace(self, teachers={name: teachers[name] for name in ("G_A", "G_B") if name in teachers})

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is for the way there, a fresh one like it for the way back, and a judge each.

        Raises:
            ValueError: if the domains differ in channels, so that one generator cannot be like the other.
        """
        if in_channels != out_channels:
            raise ValueError(
                f"cyclegan goes both ways, but inputs have {in_channels} channels and targets {out_channels}"
            )
        judges = [new_discriminator(out_channels, self.config) for _ in range(2)]
        back = initialise(copied(generator))
        return {"G_A": generator, "G_B": back, "D_A": judges[0], "D_B": judges[1]}

    def one_way(self, nets: Nets, direction: Direction) -> Nets:
        """See `Task.one_way`."""
        way = "A" if direction == "AtoB" else "B"
        return {net: nets[f"{net}_{way}"] for net in ("G", "D")}

    def forward(self, nets: Nets, taps: Mapping[str, Taps] | None = None) -> Forward:
        """See `Task.forward`. `taps` may be on "G_A", "G_B", "teacher_A" and "teacher_B". Every generator runs
        several times a step; they are read after the pass that makes its fake of a real image."""

        def context(batch: dict[str, Any], step: int, epoch: int) -> CycleContext:
            return CycleContext(batch, step, epoch, nets, self.teachers, taps or {})

        return context

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """Both generators together, then both judges, which are shown earlier fakes too."""
        config = self.config
        pools = {way: ImagePool(config.pool_size) for way in "AB"}

        def generate(context: CycleContext) -> Iterator[dict[str, Tensor]]:
            losses = {}
            for way, fake in (("A", context.fake_b), ("B", context.fake_a)):
                scores = nets[f"D_{way}"](fake)
                losses[f"G_{way}_gan"] = config.lambda_gan * generator_loss(scores, mode=config.gan_mode)
            if config.lambda_cycle:
                cycle_a, cycle_b = context.cycle()
                losses |= {"cycle_A": config.lambda_cycle * cycle_a, "cycle_B": config.lambda_cycle * cycle_b}
            weight = config.lambda_cycle * config.lambda_identity
            if weight:
                same_b, same_a = context.identity()
                losses |= {"idt_A": weight * same_b, "idt_B": weight * same_a}
            yield joined(losses, terms, context)

        def judge(context: CycleContext) -> Iterator[dict[str, Tensor]]:
            for way, real, fake in (("A", context.b, context.fake_b), ("B", context.a, context.fake_a)):
                judged = nets[f"D_{way}"]
                shown = pools[way].exchange(fake.detach())
                d_real, d_fake = discriminator_loss(judged(real), judged(shown), mode=config.gan_mode)
                yield {f"D_{way}_real": d_real, f"D_{way}_fake": d_fake}

        def optimizer(kind: str) -> Optimizer:
            return adam_of(config, [p for way in "AB" for p in nets[f"{kind}_{way}"].parameters()])

        kept = {f"pool_{way}": pool for way, pool in pools.items()}
        return [Update("G", [optimizer("G")], generate), Update("D", [optimizer("D")], judge, state=kept)]
