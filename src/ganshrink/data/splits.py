"""Which files are for which split: those of its folders, or a part of one folder, by a hash of the files' names."""

import hashlib
from collections.abc import Sequence
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ganshrink.data.config import DataConfig
from ganshrink.data.locate import folder_of
from ganshrink.data.pictures import SUFFIXES

HELD = 10  # of a folder without {split}, one file in so many is scored and not trained on
T = TypeVar("T", bound=tuple[Any, ...])


def share(files: Sequence[T], names: Sequence[str], split: str, config: DataConfig) -> list[T]:
    """The files of a split, each a tuple that begins with its key.

    Folders whose names hold no {split} are for all splits: `partition` says which files are whose, or a tenth of them, those
    with the lowest hashes of their keys, are kept out of training. A single file is for all.

    Raises:
        ValueError: if the partition does not name a file, or leaves the split none.
    """
    divided = any("{split}" in name for name in names)
    if config.partition is not None:
        if divided:
            raise ValueError(
                "data.partition is for folders without {split} in their names: remove one of both"
            )
        return _listed(files, split, Path(folder_of(config.partition, split)))
    if len(files) < 2 or divided:
        return list(files)
    ranked = sorted(range(len(files)), key=lambda place: _hash(files[place][0], config.split_seed))
    held = set(ranked[: ceil(len(files) / HELD)])
    return [file for place, file in enumerate(files) if (place in held) == (split != "train")]


def _listed(files: Sequence[T], split: str, file: Path) -> list[T]:
    """The files that a text file gives to a split, by their names with or without suffix."""
    if not file.is_file():
        raise FileNotFoundError(f"data.partition: there is no file {file}")
    wanted = str(("train", "val", "test").index(split))
    number = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.rsplit(maxsplit=1)
        if words and (len(words) != 2 or words[1] not in "012"):
            raise ValueError(f"data.partition: {file}: {line!r} is no name and 0, 1 or 2")
        if words:
            number[PurePosixPath(words[0]).with_suffix("").as_posix()] = words[1]
    if missing := [key for key, *_ in files if key not in number]:
        raise ValueError(
            f"data.partition: {file} does not name {len(missing)} of {len(files)} files, the first: {missing[0]}"
        )
    found = [each for each in files if number[each[0]] == wanted]
    if files and not found:
        raise ValueError(f"data.partition: {file} has no file for {split} (number {wanted})")
    return found


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {key}".encode(errors="surrogateescape")).digest()


def split_taken(config: DataConfig, split: str) -> str:
    """The split whose folders are opened: `val` where there is no `test`, as many data sets are published."""
    if split != "test":
        return split
    if config.label_ids == "cityscapes":  # of whose test images nobody has the labels
        return "val"
    places = folders_of(config)
    is_there, is_val = (all(_exists(place, each) for place in places) for each in ("test", "val"))
    return "val" if is_val and not is_there else split


def split_said(config: DataConfig, split: str) -> str:
    """The split as protocols name it: which one was taken instead, or how folders were divided."""
    taken = split_taken(config, split)
    said = split if taken == split else f"{taken} (there is no {split})"
    if config.partition is not None:
        said += f", by {PurePosixPath(config.partition).name}"
    elif any("{split}" not in place for place in folders_of(config)):
        said += f", a tenth of the files by a hash of their names, split_seed {config.split_seed}"
    return said


def has_val(config: DataConfig) -> bool:
    """Whether these data have images `val` of their own: neither trained on, nor taken for `test`."""
    if config.name == "facades-synthetic" or config.partition is not None:
        return True
    places = folders_of(config)
    named = places and all("{split}" in place and _exists(place, "val") for place in places)
    return bool(named) and split_taken(config, "test") == "test"


def _is_flat(config: DataConfig) -> bool:
    """Whether the pairs of `root` lie in it, not in a folder for each split."""
    root = folder_of(config.root or "", "train")
    if "{split}" in (config.root or "") or (root / "train").is_dir() or not root.is_dir():
        return False
    return any(path.suffix.lower() in SUFFIXES for path in root.iterdir())


def pattern_of(name: str) -> tuple[str, str]:
    """The folder in a setting such as `gtFine/{split}/*_labelIds.png`, and the pattern of file names in it."""
    parts = name.split("/")
    first = next((place for place, part in enumerate(parts) if "*" in part), None)
    return (name, "*") if first is None else ("/".join(parts[:first]) or ".", parts[-1])


def folders_of(config: DataConfig) -> list[str]:
    """The folders that hold a data set's images, as the settings write them: of pairs those of A, of B, of label maps; none
    of what is not read from folders."""
    photos = (config.photos,) if isinstance(config.photos, str) else config.photos or ()
    given = [place for place in (config.a, config.b, *photos, config.labels) if place is not None]
    if config.root is None:
        return given
    if config.name == "unpaired":
        return [f"{config.root}/{{split}}{side}" for side in "AB"]
    whole = "{split}" in config.root or _is_flat(config)
    return [config.root if whole else f"{config.root}/{{split}}", *given]


def _exists(place: str, split: str) -> bool:
    return folder_of(pattern_of(place)[0], split).is_dir()
