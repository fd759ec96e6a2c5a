"""The state of a training run on disk: written whole or not at all, read without executing code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ganshrink.system.atomic import replacing

FORMAT = "ganshrink checkpoint 1"


class Stateful(Protocol):
    """Something that must survive a kill: gates, an average, an image pool. Its state is tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def save_checkpoint(path: Path, content: Mapping[str, Any], *, key: str) -> None:
    """Write a checkpoint; an earlier one under this name is replaced only by a whole new one.

    Args:
        path: the file.
        content: nested dictionaries and lists of tensors, numbers and strings.
        key: what the run was made from; `load_checkpoint` refuses any other.

    Raises:
        TypeError: for content that could not be read back.
        OSError: if it cannot be written; what was there before still is.
    """
    _check_plain(content, "checkpoint")
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"format": FORMAT, "key": key, **content}, file)
        except RuntimeError as error:  # torch wraps a failed write, and says nothing of why
            raise OSError(_cause(error)) from error


def load_checkpoint(path: Path, *, key: str) -> dict[str, Any] | None:
    """The content of a checkpoint on the CPU; None if there is no such file.

    Raises:
        ValueError: for a file that is damaged or no checkpoint, or that was made from something else.
        OSError: if it cannot be read.
    """
    if not path.exists():
        return None
    content = _read(path)
    found = content.get("key")
    if found != key:
        raise ValueError(
            f"{path} belongs to other settings or data ({found!r}, not {key!r}):"
            " delete it to start again, or use another folder"
        )
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        file = path.open("rb")
    except OSError as error:  # the file may be as good as ever
        raise OSError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    with file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # zip, pickle and torch each have their own for a damaged file
            raise ValueError(
                f"{path} is damaged or no checkpoint: delete it to start this stage again"
            ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version: delete it to start this stage again")
    return content


def _cause(error: BaseException) -> str:
    """Why a write failed, as the system said it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0]


def _check_plain(value: Any, where: str) -> None:
    """What `weights_only` loading accepts. Found out now: at the next resume it would be too late."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_plain(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{where}.{index}")
    elif type(value) not in (int, float, str, bool, type(None)) and not isinstance(value, Tensor):
        raise TypeError(
            f"{where} is a {type(value).__name__}: state must be tensors, numbers, strings, lists and dictionaries"
        )
