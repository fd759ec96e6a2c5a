"""A network to convert, and what its file is compared with torch on: the same for every format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.exporter import Runner
from ganshrink.exporters.graph import Encode, prepare, values_told
from ganshrink.exporters.note import FileNote, note_of
from ganshrink.exporters.parity import compare, compare_half, on_pictures
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.probes import Inputs, Size, probes, special
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.generator import Input, as_tuple


@dataclass(frozen=True)
class Case:
    """What is converted (`graph`), in evaluation mode on the CPU, and how it is compared.

    Attributes:
        encode: the generator's inputs as `graph` takes them.
        given: the example, of the generator's own inputs.
        inputs: real ones.
        sizes: which sizes the file is to take; None: that of the example.
        free_batch: whether it takes batches of any size; else of the example's.
    """

    graph: nn.Module
    encode: Encode
    given: Inputs
    inputs: Sequence[Input]
    image_io: ImageIO | None
    sizes: Sizes | None
    free_batch: bool
    note: FileNote

    @property
    def example(self) -> Inputs:
        """As `graph` takes it."""
        return self.encode(self.given)

    @cached_property
    def tried(self) -> list[Size]:
        """The sizes that the file is compared at, beside the example's."""
        return [] if self.sizes is None else self.sizes.compared(self.graph, self.example)

    def entry(self, run: Runner, file: str, *, half: bool = False) -> dict[str, Any]:
        """The file's entry in parity.json.

        Raises:
            ValueError: it computes something else than torch.
        """
        drawn = probes(self.given, self.tried, free_batch=self.free_batch)
        every = probes(self.given, self.tried, self.inputs, free_batch=self.free_batch)
        batches = [self.encode(batch) for batch in every]
        hard = special(self.given, self.inputs, free_batch=self.free_batch)
        check = compare_half if half else compare
        found = check(run, self.graph, batches, {n: self.encode(b) for n, b in hard.items()}, file=file)
        return found | {"pictures": on_pictures(run, self.graph, batches[len(drawn) :])} | self.told()

    def told(self) -> dict[str, Any]:
        """What an entry says of how the file was made."""
        kind = self.note.input and self.note.input.kind
        about = values_told(self.graph, self.image_io) | ({} if self.sizes is None else self.sizes.about())
        free = {"dynamic_batch": self.free_batch, "dynamic_size": self.sizes is not None}
        return {"image_io": self.image_io, "input_kind": kind, **free, **about}


def single_case(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    inputs: Sequence[Input],
    image_io: ImageIO | None,
    sizes: Sizes | None,
    spec: InputSpec | None,
    provenance: Mapping[str, str] | None,
    file: str,
) -> Case:
    """The case of a format whose files take one picture at a time, in float32.

    Raises:
        ValueError: for inputs or an `image_io` that the format has no place for.
    """
    one = tuple(tensor[:1] for tensor in as_tuple(example))
    if image_io == "uint8":
        raise ValueError(
            f"{file} files take float32 pictures alone: write image_io = 'float32', or leave it out"
        )
    if not all(tensor.is_floating_point() for tensor in one):
        raise ValueError(f"{file} files of networks that take ids are not written: export onnx")
    graph, encode, given = prepare(model, one, image_io, sizes is not None)
    note = note_of(model, given, image_io, sizes, spec, provenance)
    return Case(graph, encode, given, inputs, image_io, sizes, False, note)
