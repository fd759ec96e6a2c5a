"""Which of the images that are scored were trained on: the same files, links to them, or copies of their content."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.images import Images, files_of, whole_of
from ganshrink.data.tensors import TensorInputs, TensorPairs
from ganshrink.system.generator import as_tuple

logger = logging.getLogger(__name__)

_TAIL = 2**16  # bytes: compressed pictures that end alike and are equally long are the same
_LOOKED_AT = 100  # samples of a data set of the user's own, whose files are not known


def trained_on(scored: Images, *trained: Images | None, limit: int | None = None) -> list[int]:
    """The samples, among the first `limit`, that show a picture of the training images: its file, a link to it, or a copy.

    Of what was not read from files, samples with equal inputs: of a data set of the user's own only the first hundred are
    looked at.
    """
    count = len(scored) if limit is None else min(limit, len(scored))
    found: set[int] = set()
    for images in trained:
        if images is None or isinstance(whole_of(scored), SyntheticFacades):  # drawn apart by split
            continue
        files, theirs = files_of(scored), files_of(images)
        if files is not None and theirs is not None:
            found |= _equal_files(files[:count], [path for sample in theirs for path in sample])
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
