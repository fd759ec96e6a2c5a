"""Which of the images that are scored were trained on: the same files, links to them, copies of their content, or the
same pictures saved anew."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.images import Images, files_of, whole_of
from ganshrink.data.pictures import convert_rgb, open_image
from ganshrink.data.tensors import TensorInputs, TensorPairs
from ganshrink.system.generator import as_tuple

logger = logging.getLogger(__name__)
T = TypeVar("T")

_TAIL = 2**16  # bytes: compressed pictures that end alike and are equally long are the same
_LOOKED_AT = 100  # samples of a data set of the user's own, whose files are not known
# Pictures saved anew, as JPEG or smaller, are seen as small grey ones: on CamVid these then differ by 0.03 of their contrast
# at most, and those of other streets by 0.26 at least.
_SIDE, _SAME = 16, 0.1
_OPENED = 1000  # files of each side that are looked at so: to decode them takes time


def trained_on(scored: Images, *trained: Images | None, limit: int | None = None) -> list[int]:
    """The samples, among the first `limit`, that show a picture of the training images: its file, a link to it, a copy, or
    the same picture saved anew, in another encoding or size.

    For the last at most 1000 samples and as many training files are opened, spread over them. Of what was not read from
    files, samples with equal inputs: of a data set of the user's own only the first hundred are looked at.
    """
    count = len(scored) if limit is None else min(limit, len(scored))
    found: set[int] = set()
    for images in trained:
        if images is None or isinstance(whole_of(scored), SyntheticFacades):  # drawn apart by split
            continue
        files, theirs = files_of(scored), files_of(images)
        if files is not None and theirs is not None:
            known_files = [path for sample in theirs for path in sample]
            found |= _equal_files(files[:count], known_files)
            if whole_of(images) is not whole_of(scored):  # two parts of one set hold what its owner put there
                together = getattr(whole_of(scored), "paired", True)
                found |= _saved_anew(files[:count], known_files, together=together)
        else:
            known = {_print(images, index) for index in range(_looked_at(images))} - {()}
            found |= {i for i in range(min(count, _looked_at(scored))) if _print(scored, i) in known}
    return sorted(found)


def warn_trained_on(scored: Images, *trained: Images | None, limit: int | None = None) -> None:
    """Say in one line that scores are of images that were trained on, where they are."""
    if found := trained_on(scored, *trained, limit=limit):
        logger.warning(
            "%d of the %d images to score are among the training images, %s the first: their scores flatter",
            *(len(found), len(scored), scored.sample(found[0], None)["name"]),
        )


def _equal_files(samples: list[tuple[Path, ...]], trained: Iterable[Path]) -> set[int]:
    known = {path.resolve() for path in trained}
    sizes: dict[int, list[Path]] = {}
    for path in known:
        sizes.setdefault(path.stat().st_size, []).append(path)
    ends: dict[int, set[bytes]] = {}

    def is_known(path: Path) -> bool:
        size = path.stat().st_size
        if path.resolve() in known or size not in sizes:
            return path.resolve() in known
        if size not in ends:
            ends[size] = {_end(other) for other in sizes[size]}
        return _end(path) in ends[size]

    return {place for place, paths in enumerate(samples) if any(is_known(path) for path in paths)}


def _saved_anew(samples: Sequence[tuple[Path, ...]], trained: Sequence[Path], *, together: bool) -> set[int]:
    """The samples whose pictures look as training pictures do, to the eye: each of a pair's, since masks of two photos may
    be alike, or one of those that do not belong `together`."""
    known = np.stack([_look(path, path.stat().st_mtime_ns) for path in _spread(trained)])
    quantifier = all if together else any

    def is_known(path: Path) -> bool:
        look = _look(path, path.stat().st_mtime_ns)
        # never where it could not be read, or is of one level
        return bool((np.linalg.norm(known - look, axis=1) < _SAME * np.linalg.norm(look - look.mean())).any())

    return {place for place in _spread(range(len(samples))) if quantifier(map(is_known, samples[place]))}


def _spread(items: Sequence[T]) -> Sequence[T]:
    """At most so many of the items, spread over them."""
    return items[:: -(-len(items) // _OPENED) or 1]


@lru_cache(maxsize=4 * _OPENED)  # a run looks before its training and at its scores
def _look(path: Path, changed: int) -> np.ndarray:
    """A picture as a small grey one, (D,) levels; NaN where the file is no picture, which `check` names."""
    try:
        with open_image(path, whole=False) as image:
            image.draft("L", (4 * _SIDE, 4 * _SIDE))  # of a JPEG only so much is decoded
            grey = convert_rgb(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
            return np.asarray(grey, np.float32).ravel()
    except ValueError:
        return np.full(_SIDE * _SIDE, np.nan, np.float32)


def _end(path: Path) -> bytes:
    """A hash of a file's end; of an array, whose border may be as another's, of the whole file."""
    with path.open("rb") as file:
        if path.suffix.lower() != ".npy":
            file.seek(max(0, path.stat().st_size - _TAIL))
        return hashlib.sha256(file.read()).digest()


def _looked_at(images: Images) -> int:
    in_memory = isinstance(whole_of(images), TensorInputs | TensorPairs)
    return len(images) if in_memory else min(len(images), _LOOKED_AT)


def _print(images: Images, index: int) -> tuple[bytes, ...]:
    """Hashes of a sample's inputs, none where it has none."""
    given = images.sample(index, None).get("input")
    tensors = () if given is None else as_tuple(given)
    return tuple(hashlib.sha256(tensor.contiguous().numpy().tobytes()).digest() for tensor in tensors)
