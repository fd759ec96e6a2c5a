"""Where a data set's folders are."""

import os
from pathlib import Path

from ganshrink.data.pictures import printable

ROOT_VARIABLE = "GANSHRINK_DATA"


def folder_of(path: str, split: str) -> Path:
    """The folder that `path` names for a split, {split} replaced in it: a relative path starts at the folder in the
    environment variable GANSHRINK_DATA, or at the working directory where that is not set."""
    return (
        Path(os.environ.get(ROOT_VARIABLE) or ".") / Path(path.replace("{split}", split)).expanduser()
    ).absolute()


def find_folder(path: str, split: str, *, setting: str, inside: str = "") -> Path:
    """The existing folder that `path` names for a split (see `folder_of`), or the one called `inside` in it.

    Raises:
        FileNotFoundError: no such folder; the message names the path tried and the ways to set it.
    """
    folder = folder_of(f"{path}/{inside}", split)
    if folder.is_dir():
        return folder
    tried = f"data folder {printable(folder)} does not exist (data.{setting} = {path!r}"
    for other in ("val", "test") if split != "train" else ():
        beside = folder_of(f"{path}/{inside}", other)
        if beside != folder and beside.is_dir():
            raise FileNotFoundError(
                f'{tried}), but {printable(beside)} does: set metrics.split = "{other}" to score on that'
            )
    base = os.environ.get(ROOT_VARIABLE)
    start = f"{ROOT_VARIABLE} = {base}" if base else f"{ROOT_VARIABLE} is not set"
    raise FileNotFoundError(
        f"{tried}, {start}): give data.{setting} as an absolute path, or set {ROOT_VARIABLE} to the folder that holds it"
    )
