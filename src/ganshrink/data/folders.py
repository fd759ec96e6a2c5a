"""Folders of images: which files are there, what is wrong with them, and a hash of what they hold."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganshrink.data.config import find_folder
from ganshrink.data.pictures import SUFFIXES, printable, read_size

DECODE_LIMIT = 3000  # images; beyond, `check` reads headers and sizes only
_HASH_LIMIT = 256 * 2**20  # bytes; beyond, names, sizes and times stand for the contents

Decode = Callable[[Path], Any]


def open_folder(
    name: str, split: str, *, setting: str, inside: str = ""
) -> tuple[Path, dict[str, Path], list[str]]:
    """The folder that a setting names (see `find_folder`), its images by key, and a line for each problem: having none
    is one.

    Raises:
        FileNotFoundError: no such folder.
    """
    folder = find_folder(name, split, setting=setting, inside=inside)
    files, problems = list_images(folder)
    if not files and not problems:
        problems = [empty_folder(folder)]
    return folder, files, problems


def open_pairs(
    names: tuple[str, str], split: str, *, settings: tuple[str, str]
) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """(key, first, second) of the images in two folders that have equal keys, and a line for each problem.

    Raises:
        FileNotFoundError: a folder is missing.
    """
    opened = [open_folder(name, split, setting=s) for name, s in zip(names, settings, strict=True)]
    (folder_a, first, problems_a), (folder_b, second, problems_b) = opened
    keys, missing = match_pairs(first, second, folders=(folder_a, folder_b))
    if not first or not second:
        missing = []  # that one folder is empty says it all
    return [(key, first[key], second[key]) for key in keys], problems_a + problems_b + missing


def list_images(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The images in and below a folder by key, and a line for each thing that would be left out unseen.

    The key is the relative path without suffix, in Unicode's composed form: a folder copied from a Mac spells the same
    names otherwise. Names with a leading dot are left out, as other tools do; so are links to folders, with a line.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    for path in _walk(folder, problems):
        key = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
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


def empty_folder(folder: Path) -> str:
    """The line that says that a folder holds no image."""
    return f"no images in {printable(folder)} (looked for {', '.join(SUFFIXES)})"


def _examine(path: Path, decode: Decode | None) -> tuple[tuple[int, int] | None, str | None]:
    """(size (H, W), None) of a sound image, or (None, the problem); decoded whole where `decode` is given."""
    try:
        size = read_size(path)
        if decode is not None:
            decode(path)
    except (ValueError, OSError) as error:
        return None, str(error)
    return size, None


def examine_all(
    files: Sequence[Path],
    decode: Decode,
    *,
    flaw: Callable[[Path, tuple[int, int]], str | None] = lambda path, size: None,
) -> list[str]:
    """A line for each image that cannot be used, or has a `flaw` by its size (H, W); decoded unless over 3000."""
    reader = decode if len(files) <= DECODE_LIMIT else None
    problems = []
    for path in files:
        size, problem = _examine(path, reader)
        problems.append(problem if size is None else flaw(path, size))
    return [problem for problem in problems if problem is not None]


def examine_pairs(
    pairs: Sequence[tuple[Path, Path]], decoders: tuple[Decode, Decode], *, partner: str
) -> list[str]:
    """A line for each image that cannot be used, and each pair of unequal sizes; decoded unless over 3000 pairs."""
    problems = []
    for pair in pairs:
        readers = decoders if len(pairs) <= DECODE_LIMIT else (None, None)
        (size, problem), (other, other_problem) = map(_examine, pair, readers)
        problems += [problem, other_problem]
        if size and other and size != other:
            problems.append(
                f"{printable(pair[0])} is {size[1]} x {size[0]} pixels, its {partner} {printable(pair[1])} "
                f"{other[1]} x {other[0]}"
            )
    return [problem for problem in problems if problem is not None]


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
