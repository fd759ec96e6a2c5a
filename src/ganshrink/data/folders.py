"""Folders of images: which files are there, what is wrong with them, and a hash of what they hold."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ganshrink.data.pictures import SUFFIXES, printable, read_size

DECODE_LIMIT = 3000  # images; beyond, `check` reads headers and sizes only
_HASH_LIMIT = 256 * 2**20  # bytes; beyond, names, sizes and times stand for the contents


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


def examine(path: Path, decode: Callable[[Path], Any] | None) -> tuple[tuple[int, int] | None, str | None]:
    """(size (H, W), None) of a sound image, or (None, the problem); decoded whole where `decode` is given."""
    try:
        size = read_size(path)
        if decode is not None:
            decode(path)
    except (ValueError, OSError) as error:
        return None, str(error)
    return size, None


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
