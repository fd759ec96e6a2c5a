"""The generator that is made small: built and traced once, however many ask for its structure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.nets.extra_blocks import with_extra_blocks
from ganshrink.pruning import Channels, add_affine, initialise
from ganshrink.pruning.folding import folded_copy
from ganshrink.system.copies import in_evaluation
from ganshrink.system.values import raw
from ganshrink.training.stamps import sources

# What may be done to a generator before it is cut, by name: a copy of the network that computes the same. Each gets the
# network, example inputs and its value.
TRANSFORMS: Mapping[str, Callable[[nn.Module, Sequence[Tensor], Any], nn.Module]] = {
    "affine": lambda network, example, _: add_affine(network),
    "extra_blocks": lambda network, example, count: with_extra_blocks(folded_copy(network), example, count),
}
Transforms = Mapping[str, Any]
"""Names of `TRANSFORMS` in order, with their values. It is kept with a student, which is built again by it."""


def transformed(network: nn.Module, example: Sequence[Tensor], transforms: Transforms) -> nn.Module:
    """A network as a method cuts it.

    Raises:
        ValueError: for an unknown transform.
    """
    for name, value in transforms.items():
        if name not in TRANSFORMS:
            raise ValueError(
                f"{name!r} is no transform of a generator ({', '.join(TRANSFORMS)}): was this written by a later version?"
            )
        network = TRANSFORMS[name](network, example, value)
    return network


@dataclass(frozen=True)
class Original:
    """The generator that a job makes small.

    Attributes:
        build: makes it, freshly initialised.
        example: inputs of the size at which costs count.
        transforms: what the method does to it before it is cut.
        exact: no cut changes the statistics of norms over channels (see `trace`).
        net: name and options of what builds it again; none: it is the user's own.
    """

    build: Callable[[], nn.Module]
    example: tuple[Tensor, ...]
    transforms: Transforms
    exact: bool = False
    net: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What it is called: by its recipe, or else its class."""
        return type(raw(self.network)).__name__ if self.net is None else str(self.net["name"])

    def transform(self, network: nn.Module) -> nn.Module:
        """A network like the original, such as the trained teacher, as the method cuts it."""
        return transformed(network, self.example, self.transforms)

    def fresh(self) -> nn.Module:
        """Another one to train from the start: transformed, with the task's initialisation."""
        return initialise(folded_copy(self.transform(self.build())))

    @cached_property
    def network(self) -> nn.Module:
        """The transformed generator, untrained, in eval mode: for its modules; nobody trains it."""
        return in_evaluation(self.transform(self.build()))

    def describe(self) -> dict[str, Any]:
        """What the untrained generator is, for a stage's stamp: its modules, and the code of a user's own."""
        own = sources(self.network)
        return {"net": repr(self.network)} | ({"source": own} if own else {})

    @cached_property
    def channels(self) -> Channels:
        """The structure of `network`, which plans cut."""
        return trace(self.network, *self.example, exact=self.exact)

    @cached_property
    def untouched(self) -> Channels:
        """The structure of the generator as it came, for what it costs. A transform that adds tensors alone leaves the
        traced structure as it is; only where it adds layers is there a second one."""
        if not self.transforms:
            return self.channels
        plain = folded_copy(self.build())
        if self.inserted:
            return trace(plain, *self.example, exact=self.exact)
        return self.channels.counting(plain.state_dict().keys())

    @cached_property
    def inserted(self) -> list[str]:
        """Paths of the modules that the transforms added, the outermost of each."""
        had = dict(self.build().named_modules()).keys()
        added: list[str] = []
        for path, _ in self.network.named_modules():
            if path not in had and not path.startswith(tuple(f"{outer}." for outer in added)):
                added.append(path)
        return added
