"""A student at work: pictures in, pictures out."""

import logging
from collections import Counter
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganshrink.data import InputSpec, prepare, write_picture
from ganshrink.data.folders import empty_folder
from ganshrink.data.pictures import SUFFIXES, printable
from ganshrink.data.pixels import ARRAY, PNG_CHANNELS
from ganshrink.system.generator import generate
from ganshrink.workflow.saved_networks import Uncut, load_network, read_spec, student_file

logger = logging.getLogger(__name__)

_SHOWN = 5  # images quoted in the error
_MULTIPLES = [2**power for power in range(10)]  # of which a network may want its sides to be
Size = tuple[int, int]


def predict(
    student: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    original: Uncut = None,
    size: Size | Literal["trained"] | None = None,
) -> list[Path]:
    """Run a student on an image, or on every image of a folder.

    A picture keeps its size where the student takes it, filled up at the right and below to the multiple that the student
    wants and cropped again; a student that takes no other size than the one it was trained at gets that, with a warning.

    Args:
        student: a student.safetensors, or the folder of a run that holds one.
        source: an image (for a student that takes label maps: a PNG of label ids), or a folder of them; its
            subfolders and names with a leading dot are left out.
        target: the PNG to write, or the folder to write PNGs of the same names into. Images of other than one, three or
            four channels are written as .npy.
        original: for students of a network of your own, that network uncut, or its MODULE:NAME.
        size: (height, width) to resize pictures to; `trained`: what the student was trained at; none: their own.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: if the student or the source is not there.
        ValueError: if the student does not say what it takes, or an image cannot be used. The other images of the
            folder are written all the same.
    """
    file, source, target = student_file(student), Path(source), Path(target)
    inputs = len(read_spec(file).example)
    if inputs > 1:
        raise ValueError(
            f"{printable(file)} takes {inputs} inputs, and a picture is one: load it in Python with "
            "ganshrink.load, and call it"
        )
    network, spec = load_network(file, original)
    if spec.input is None:
        raise ValueError(f"{printable(file)} does not say what pictures it takes")
    runner = _Runner(network, spec.input)
    suffix = ".png" if runner.channels in PNG_CHANNELS else ARRAY
    pairs = _pair(source, target, suffix)
    problems = []
    for path, written in pairs:
        try:
            image = runner(path, spec.input.size if size == "trained" else size)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
            continue
        write_picture(written, image, white=spec.input.white)
    if problems and not source.is_dir():
        raise ValueError(problems[0])
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} of {len(pairs)} images could not be used, the others are in {printable(target)}: "
            f"{'; '.join(problems[:_SHOWN])}{more}"
        )
    return [written for _, written in pairs]


def parse_size(text: str | None) -> Size | Literal["trained"] | None:
    """What `--size` says: `256x512`, height and width, or `trained`."""
    if text is None or text == "trained":
        return text  # type: ignore[return-value]
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise ValueError(f"--size {text}: write HEIGHTxWIDTH, such as 256x512, or trained")
    return int(sides[0]), int(sides[1])


class _Runner:
    """A student that takes pictures of any size, as far as it can.

    Attributes:
        channels: of what it makes.
    """

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        self.network, self.spec = network, spec
        made = self._run(torch.zeros(1, spec.channels, *spec.size)).shape
        self.channels = made[1]
        self.scale = [Fraction(made[2 + axis], spec.size[axis]) for axis in (0, 1)]
        self.multiple = _MULTIPLES[0]  # that was right for the last picture
        self.sizes_told: set[Size] = set()

    def __call__(self, path: Path, size: Size | None) -> Tensor:
        """The image (C, H, W) that it makes of a picture, resized to (H, W) before where that is given."""
        if size is not None:
            return self._run(prepare(path, self.spec, size=size)[None])[0]
        picture = prepare(path, self.spec, size="own")
        for multiple in [by for by in _MULTIPLES if by >= self.multiple]:
            image = self._filled_up(picture, multiple)
            if image is not None:
                self.multiple = multiple
                return image
        own = (picture.shape[1], picture.shape[2])
        if own != self.spec.size and own not in self.sizes_told:
            self.sizes_told.add(own)
            trained = f"{self.spec.size[1]}x{self.spec.size[0]}"
            logger.warning(
                "pictures of %dx%d are resized to %s, at which the student was trained: it does not run at their size",
                *(own[1], own[0], trained),
            )
        return self._run(prepare(path, self.spec)[None])[0]

    def _filled_up(self, picture: Tensor, multiple: int) -> Tensor | None:
        """The image of a picture whose sides are brought to a multiple; None where the network does not take that."""
        height, width = picture.shape[1:]
        down, right = -height % multiple, -width % multiple
        try:
            image = self._run(pad(picture[None], (0, right, 0, down), mode="replicate"))[0]
        except Exception:  # whatever a network of the user's own raises for a size that it cannot take
            return None
        sides = [side * by for side, by in zip((height + down, width + right), self.scale, strict=True)]
        if list(image.shape[1:]) != sides:
            return None
        return image[:, : ceil(height * self.scale[0]), : ceil(width * self.scale[1])]

    def _run(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            return generate(self.network, batch)


def _pair(source: Path, target: Path, suffix: str) -> list[tuple[Path, Path]]:
    """Each image with the file to write from it."""
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if _is_image(path))
        if not found:
            raise ValueError(empty_folder(source))
        pairs = [(path, target / f"{path.stem}{suffix}") for path in found]
    elif source.exists() or source.is_symlink():
        pairs = [(source, target / f"{source.stem}{suffix}" if target.is_dir() else target)]
    else:
        raise FileNotFoundError(f"there is no image or folder {printable(source)}")
    for written, count in Counter(written for _, written in pairs).items():
        if written.suffix.lower() not in (suffix, ARRAY):
            why = "pictures are written as PNG" if suffix == ".png" else "images of its channels are no PNG"
            raise ValueError(f"{printable(written)}: {why}; name a {suffix} file, or a folder")
        if count > 1:
            raise ValueError(
                f"{count} images in {printable(source)} would be written to {printable(written)}: rename them"
            )
    for path, written in pairs:
        if path.exists() and written.exists() and written.samefile(path):
            raise ValueError(f"{printable(written)} is an input itself: name another place for the output")
    return pairs


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
