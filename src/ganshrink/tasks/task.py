"""What a method may ask of any task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel
from torch import Tensor, nn

from ganshrink.engine import Forward, Taps, Update

Nets = dict[str, nn.Module]
Term = Callable[[Any], dict[str, Tensor]]
"""An extra loss of the generator: named, weighted scalars, computed from the step's context."""

Target = Literal["truth", "teacher"]
RealImages = Literal["photos", "teacher"]


class Task(Protocol):
    """What is optimised. Made from its config: `TASKS[name](config)`."""

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any = ...) -> None: ...

    @property
    def config(self) -> BaseModel: ...

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """Networks that only look on, for `fit(frozen=...)`."""
        ...

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, with freshly initialised nets for whatever else the task trains."""
        ...

    def forward(self, nets: Nets, taps: Mapping[str, Taps] | None = None) -> Forward:
        """How a batch becomes a context. `taps` are read after each forward pass that counts."""
        ...

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """A step's updates in the paper's order; `terms` join the generator's losses."""
        ...

    def distilling(
        self, teacher: nn.Module, *, target: Target = "truth", real: RealImages = "photos"
    ) -> Self:
        """The same task with a teacher at hand.

        Args:
            teacher: a trained generator; runs in eval mode without gradients, at most once a step.
            target: what the reconstruction loss pulls the student to.
            real: what the discriminator is shown as real.
        """
        ...


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
