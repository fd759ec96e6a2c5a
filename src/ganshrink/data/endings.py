"""Names of pairs that differ by an ending: X_leftImg8bit.png and X_gtFine_labelIds.png, 0001x4.png and 0001.png; and
pictures that are numbered in the order of other names."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

# Where a name's ending may begin; inside a word or a number it must not: 12 is no ending of 112.
_BOUNDARY = re.compile(r"(?<=[A-Za-z0-9])(?=[_\-.])|(?<=\d)(?=x\d+$)")
# What label sets call the ids to train on, of several kinds of picture beside each photo.
_LABEL_IDS = "labelIds"
_LEAST = 0.5  # of the first folder's images must find a partner by an ending


def common_endings(first: Sequence[str], second: Sequence[str]) -> tuple[str, dict[str, int]] | None:
    """The ending of all names in one folder, and those by which names in another belong to half of them or more, with
    how many; None: there is no such. Endings may be empty."""
    for ending in _endings_of_all(first):
        bases = {key.removesuffix(ending) for key in first}
        found: Counter[str] = Counter()
        for key in second:
            for end in _endings(key):
                if key.removesuffix(end) in bases:
                    found[end] += 1
        if many := {end: count for end, count in found.items() if count >= _LEAST * len(bases)}:
            return ending, many
    return None


def partners(
    files: Mapping[str, Path], bases: Collection[str], endings: Mapping[str, int], *, setting: str
) -> dict[str, Path]:
    """The files of the one ending by which they belong to others, by their names without it; those of further endings are
    pictures of another kind. Of several kinds of label map the one of class ids is taken.

    Raises:
        ValueError: if several may be meant.
    """
    found = [end for end in endings if setting == "labels" and end.endswith(_LABEL_IDS)]
    if len(found) != 1:
        found = sorted(end for end, count in endings.items() if count == max(endings.values()))
    if len(found) > 1:
        names = ", ".join(f"*{end}" for end in found)
        raise ValueError(
            f"data.{setting}: several images belong to each, {names}: say which, such as data.{setting} = "
            f"'FOLDER/*{found[0]}.*'"
        )
    [ending] = found
    stripped = {key.removesuffix(ending): path for key, path in files.items() if key.endswith(ending)}
    return stripped if ending else {key: path for key, path in stripped.items() if key in bases}


def by_number(pictures: Mapping[str, Path], maps: Mapping[str, Path]) -> dict[Path, Path]:
    """The label map of each picture where pictures are named by numbers from 0 or 1 on, in the order of as many maps' names,
    as pix2pix's Cityscapes are; none where they are not."""
    maps = {key: path for key, path in maps.items() if key.endswith(_LABEL_IDS)} or maps
    numbered = {int(key): path for key, path in pictures.items() if key.isdecimal()}
    first = min(numbered, default=0)
    counted = set(numbered) == set(range(first, first + len(maps))) and len(numbered) == len(pictures)
    if first > 1 or not counted or not maps or all(key.isdecimal() for key in maps):
        return {}
    return {numbered[number]: maps[key] for number, key in enumerate(sorted(maps), first)}


def _endings(key: str) -> list[str]:
    """All endings of a name, none first, then the shortest."""
    name = key.rpartition("/")[2]
    return ["", *(name[match.start() :] for match in reversed(list(_BOUNDARY.finditer(name))))]


def _endings_of_all(keys: Sequence[str]) -> list[str]:
    return [ending for ending in _endings(keys[0]) if all(key.endswith(ending) for key in keys)]
