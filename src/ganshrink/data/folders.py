"""Folders of images: which files are there, what is wrong with them, and a hash of what they hold."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any

from ganshrink.data.endings import common_endings, partners
from ganshrink.data.locate import find_folder
from ganshrink.data.pictures import SUFFIXES, printable, read_size
from ganshrink.data.splits import pattern_of

DECODE_LIMIT = 3000  # images that `check` decodes; of the others it reads headers and sizes only
_HASH_LIMIT = 256 * 2**20  # bytes; beyond, names, sizes and times stand for the contents

Decode = Callable[[Path], Any]


def open_folder(
    name: str, split: str, *, setting: str, inside: str = ""
) -> tuple[Path, dict[str, Path], list[str]]:
    """The folder that a setting names (see `find_folder`), its images by key, and a line for each problem: having none
    is one.

    The name may end in a pattern of file names, such as `gtFine/{split}/*_labelIds.png`: then only such files count, and
    their keys are what stands for the star.

    Raises:
        FileNotFoundError: no such folder.
    """
    place, pattern = pattern_of(name)
    folder = find_folder(place, split, setting=setting, inside=inside)
    files, problems = list_images(folder, pattern)
    if not files and not problems:
        problems = [empty_folder(folder, pattern)]
    return folder, files, problems


def open_pairs(
    names: tuple[str, str], split: str, *, settings: tuple[str, str]
) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """(key, first, second) of the images in two folders that have equal keys, and a line for each problem.

    Where no key is in both folders, names may differ by an ending (see `ganshrink.data.endings`).

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: several images of the second belong to each of the first.
    """
    opened = [open_folder(name, split, setting=s) for name, s in zip(names, settings, strict=True)]
    (folder_a, first, problems_a), (folder_b, second, problems_b) = opened
    problems = problems_a + problems_b
    if not first or not second:
        return [], problems  # that one folder is empty says it all
    if not first.keys() & second.keys() and (found := common_endings(list(first), list(second))):
        ending, others = found
        first = {key.removesuffix(ending): path for key, path in first.items()}
        second = partners(second, first, others, setting=settings[1])
    keys, missing = match_pairs(first, second, folders=(folder_a, folder_b))
    pairs = [(key, first[key], second[key]) for key in keys]
    return pairs, problems + missing


def list_images(folder: Path, pattern: str = "*") -> tuple[dict[str, Path], list[str]]:
    """The images in and below a folder by key, and a line for each thing that would be left out unseen.

    The key is the relative path without suffix, in Unicode's composed form: a folder copied from a Mac spells the same
    names otherwise. Names with a leading dot are left out, as other tools do; so are links to folders, with a line.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    stem = pattern.rpartition(".")[0] or pattern
    before, after = stem.partition("*")[0], stem.rpartition("*")[2]
    for path in _walk(folder, problems):
        if not fnmatchcase(path.name, pattern):
            continue
        place = path.relative_to(folder)
        place = place.with_name(place.stem.removeprefix(before).removesuffix(after) or place.stem)
        key = unicodedata.normalize("NFC", place.as_posix())
        if key in found:
            problems.append(
                f"{printable(path)} and {printable(found[key].name)} have the same name: remove one"
            )
        found.setdefault(key, path)
    return found, problems


def _walk(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Everything below a folder that is named as an image, but for folders, in order."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"cannot read folder {printable(folder)}: {error.strerror}")
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            if path.suffix.lower() in SUFFIXES:
                yield path
        elif path.is_symlink():
            problems.append(
                f"{printable(path)} is a link to a folder, which is not followed: move the folder here, or the link away"
            )
        else:
            yield from _walk(path, problems)


def match_pairs(
    first: Mapping[str, Path], second: Mapping[str, Path], *, folders: tuple[Path, Path]
) -> tuple[list[str], list[str]]:
    """Keys present in both folders, and a line for each image without its partner."""
    shown = [printable(folder) for folder in folders]
    problems = [f"{printable(first[key])} has no partner in {shown[1]}" for key in first if key not in second]
    problems += [
        f"{printable(second[key])} has no partner in {shown[0]}" for key in second if key not in first
    ]
    return [key for key in first if key in second], problems


def empty_folder(folder: Path, pattern: str = "*") -> str:
    """The line that says that a folder holds no image."""
    wanted = "" if pattern == "*" else f" of names like {pattern}"
    return f"no images in {printable(folder)}{wanted} (looked for {', '.join(SUFFIXES)})"


def _examine(path: Path, decode: Decode | None) -> tuple[tuple[int, int] | None, str | None]:
    """(size (H, W), None) of a sound image, or (None, the problem); decoded whole where `decode` is given."""
    try:
        size = read_size(path)
        if decode is not None:
            decode(path)
    except (ValueError, OSError) as error:
        return None, str(error)
    return size, None


Size = tuple[int, int]
Flaw = Callable[[Path, Size], str | None]


def too_small(least: Size, flaw: Flaw | None = None) -> Flaw:
    """The flaw of an image that is smaller than (H, W), which is cut out of it, or another flaw."""

    def found(path: Path, size: Size) -> str | None:
        if size[0] < least[0] or size[1] < least[1]:
            return (
                f"{printable(path)} is {size[1]} x {size[0]} pixels, smaller than the {least[1]} x {least[0]} that are cut "
                'out of it (data.crop, or data.size where data.load_size = "native")'
            )
        return None if flaw is None else flaw(path, size)

    return found


def examine_all(files: Sequence[Path], decode: Decode, *, flaw: Flaw = lambda path, size: None) -> list[str]:
    """A line for each image that cannot be used, or has a `flaw` by its size (H, W); at most 3000, spread, are decoded."""
    problems = []
    stride = -(-len(files) // DECODE_LIMIT)
    for place, path in enumerate(files):
        size, problem = _examine(path, decode if place % stride == 0 else None)
        problems.append(problem if size is None else flaw(path, size))
    return [problem for problem in problems if problem is not None]


Scale = tuple[Fraction, Fraction]


def examine_pairs(
    pairs: Sequence[tuple[Path, Path]],
    decoders: tuple[Decode, Decode],
    *,
    partner: str,
    scale: Scale = (Fraction(1), Fraction(1)),
    least: tuple[Size, Size] = ((0, 0), (0, 0)),
) -> list[str]:
    """A line for each image that cannot be used, and each pair whose sizes do not fit; at most 3000 pairs are decoded.

    Args:
        scale: how many times as high and as wide the second may be as the first, where it is not as large.
        least: (H, W) that either must have.
    """
    problems = []
    stride = -(-len(pairs) // DECODE_LIMIT)
    for place, pair in enumerate(pairs):
        readers = decoders if place % stride == 0 else (None, None)
        (size, problem), (other, other_problem) = map(_examine, pair, readers)
        problems += [problem, other_problem]
        for path, found, wanted in zip(pair, (size, other), least, strict=True):
            if found:
                problems.append(too_small(wanted)(path, found))
        if size and other and size != other and not _scaled(size, other, scale):
            unlike = "" if scale == (1, 1) else f": neither as large nor {_times(scale)}"
            problems.append(
                f"{printable(pair[0])} is {size[1]} x {size[0]} pixels, its {partner} {printable(pair[1])} "
                f"{other[1]} x {other[0]}{unlike}"
            )
    return [problem for problem in problems if problem is not None]


def _scaled(size: Size, other: Size, scale: Scale) -> bool:
    """Whether `other` is `size` times the scale, the smaller one rounded up or down."""
    return scale != (1, 1) and all(
        abs(have - want * by) < max(Fraction(1), by)
        for have, want, by in zip(other, size, scale, strict=True)
    )


def _times(scale: Scale) -> str:
    height, width = scale
    return (
        f"{height} times as large" if height == width else f"{height} times as high and {width} times as wide"
    )


def sample_name(key: str) -> str:
    """A key as a name that can stand in a file name, a JSON file and a page."""
    return printable(key.replace("/", "__"))


def hash_files(settings: Mapping[str, Any], files: Iterable[tuple[str, Path]]) -> str:
    """A hash of settings and files: their contents up to 256 MiB in all, else their sizes and times."""
    files = list(files)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    small = sum(path.stat().st_size for _, path in files) <= _HASH_LIMIT
    for key, path in files:
        digest.update(f"\n{key}\n".encode(errors="surrogateescape"))
        stat = path.stat()
        if small:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        else:
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]
