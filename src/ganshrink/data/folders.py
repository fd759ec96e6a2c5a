"""Folders of images: which files are there, what is wrong with them, and a hash of what they hold."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ganshrink.data.pictures import SUFFIXES, read_size

DECODE_LIMIT = 3000  # images; beyond, `check` reads headers and sizes only
_HASH_LIMIT = 256 * 2**20  # bytes; beyond, names, sizes and times stand for the contents


def list_images(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The images in and below a folder by key (relative path without suffix); and keys found twice."""
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            problems.append(f"{path} and {found[key].name} have the same name: remove one")
        found.setdefault(key, path)
    return found, problems


def match_pairs(
    first: Mapping[str, Path], second: Mapping[str, Path], *, folders: tuple[Path, Path]
) -> tuple[list[str], list[str]]:
    """Keys present in both folders, and a line for each image without its partner."""
    problems = [f"{first[key]} has no partner in {folders[1]}" for key in first if key not in second]
    problems += [f"{second[key]} has no partner in {folders[0]}" for key in second if key not in first]
    return [key for key in first if key in second], problems


def empty_folder(folder: Path) -> str:
    """The line that says that a folder holds no image."""
    return f"no images in {folder} (looked for {', '.join(SUFFIXES)})"


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
    """A key as a name that can stand in a file name."""
    return key.replace("/", "__")


def hash_files(settings: Mapping[str, Any], files: Iterable[tuple[str, Path]]) -> str:
    """A hash of settings and files: their contents up to 256 MiB in all, else their sizes and times."""
    files = list(files)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    small = sum(path.stat().st_size for _, path in files) <= _HASH_LIMIT
    for key, path in files:
        digest.update(f"\n{key}\n".encode())
        stat = path.stat()
        if small:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        else:
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]
