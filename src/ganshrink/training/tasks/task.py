"""What a method may ask of any task."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from ganshrink.nets import build
from ganshrink.nets.patchgan import MultiScale
from ganshrink.pruning import initialise
from ganshrink.training import Forward, Taps, Update, adam

Nets = dict[str, nn.Module]
Term = Callable[[Any], dict[str, Tensor]]
"""An extra loss of the generator: named, weighted scalars, computed from the step's context."""

Target = Literal["truth", "teacher"]
RealImages = Literal["photos", "teacher"]
Direction = Literal["AtoB", "BtoA"]

TASK_NAMES = (
    "pix2pix, pix2pixhd, gaugan: pairs; cyclegan: two unpaired sets; image2image: your own trained generator and inputs for "
    "it; unconditional: latent vectors and photos; or MODULE:NAME of your own"
)


class Task(Protocol):
    """What is optimised. Made from its config: `TASKS[name](config)`."""

    Config: ClassVar[type[BaseModel]]
    needs: ClassVar[frozenset[str]]
    """Of {"target", "pairs", "latents"}: what the data must hold besides inputs; "pairs" is a target for each; "latents":
    inputs are vectors."""
    needs_teacher: ClassVar[bool]
    """Whether there is nothing to learn but what a trained generator does."""
    both_ways: ClassVar[bool]
    """Whether its own training gives generators of both directions, whichever is wanted."""
    student_settings: ClassVar[frozenset[str]]
    """Fields of the config that a student's training reads and the teacher's does not."""

    def __init__(self, config: Any = ...) -> None: ...

    @property
    def config(self) -> BaseModel: ...

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """Networks that only look on, for `fit(frozen=...)`."""

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, with freshly initialised nets for whatever else the task trains. `in_channels` are those
        of the input's images, 0 where it holds none."""

    def one_way(self, nets: Nets, direction: Direction) -> Nets:
        """Of the nets of a training, those of one direction, as "G" and, where there is one, "D"."""

    def forward(self, nets: Nets, taps: Mapping[str, Taps] | None = None) -> Forward:
        """How a batch becomes a context. `taps` are read after each forward pass that counts. The context has `ways`: each
        generator at work in the step, a `GeneratorPass` by the name of its net."""

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """A step's updates in the paper's order; `terms` join the generator's losses."""

    def as_student_task(
        self, teacher: nn.Module, *, target: Target | None = None, real: RealImages | None = None
    ) -> "Task":
        """How a student of this task learns with a teacher at hand: one generator "G", perhaps a "D".

        Args:
            teacher: a trained generator; runs in eval mode without gradients, at most once a step.
            target: what the reconstruction loss pulls the student to; none: the task's habit.
            real: what the discriminator is shown as real; none: the task's habit.
        """

    def with_teachers(self, teachers: Nets) -> "Task":
        """The same training with the same losses, and teachers looking on, whose images and features a method's terms can
        ask the context's `ways` for.

        Args:
            teachers: trained generators, by the names that the task's own generators have among its nets; they run in eval
                mode without gradients, at most once a step.
        """


@dataclass(frozen=True)
class WithTerms:
    """A task with further losses of its generators, whatever method trains them."""

    task: Any
    terms: tuple[Term, ...]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a copy is asked for these before it has a task
            raise AttributeError(name)
        return getattr(self.task, name)

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        return self.task.updates(nets, (*terms, *self.terms))

    def as_student_task(self, teacher: nn.Module, **options: Any) -> "WithTerms":
        return replace(self, task=self.task.as_student_task(teacher, **options))

    def with_teachers(self, teachers: Nets) -> "WithTerms":
        return replace(self, task=self.task.with_teachers(teachers))


def with_settings(task: Any, **changes: Any) -> Any:
    """The task with other values of its config."""
    if isinstance(task, WithTerms):
        return replace(task, task=with_settings(task.task, **changes))
    return replace(task, config=task.config.model_copy(update=changes))


def joined(losses: dict[str, Tensor], terms: Sequence[Term], context: Any) -> dict[str, Tensor]:
    """A task's own losses and those of a method.

    Raises:
        ValueError: for a name that is taken, since one of the two would be lost.
    """
    for term in terms:
        more = term(context)
        taken = losses.keys() & more.keys()
        if taken:
            raise ValueError(f"there are two loss terms named {min(taken)!r}: rename one")
        losses = losses | more
    return losses


DNorm = Literal["batch", "instance", "instance_affine", "none"]


class Judged(Protocol):
    """The settings of a PatchGAN, as every task's config has them."""

    @property
    def ndf(self) -> int: ...

    @property
    def d_layers(self) -> int: ...

    @property
    def d_norm(self) -> str: ...


def adam_of(config: Any, parameters: Iterable[nn.Parameter], *, lr: float | None = None) -> Optimizer:
    """Adam as a task's settings have it, perhaps at another rate."""
    return adam(parameters, lr=lr or config.lr, betas=(config.beta1, config.beta2))


def new_discriminator(in_channels: int, config: Judged) -> nn.Module:
    """A freshly initialised PatchGAN, or where the settings have `d_scales` as many at as many scales."""
    norm, _, affine = config.d_norm.partition("_")
    options: dict[str, Any] = {"ndf": config.ndf, "layers": config.d_layers, "in_channels": in_channels}
    options |= {"norm": norm, "affine": bool(affine) or None}
    if (scales := getattr(config, "d_scales", None)) is None:
        return initialise(build("patchgan", **options))
    spectral = getattr(config, "d_spectral", False)
    return initialise(MultiScale(scales, pad=2, spectral=spectral, **options))
