"""Weights files of the judging networks: found by path, loaded strictly, named in every protocol by hash.

They are never shipped, and downloaded only by `fetch_weights`, which nothing calls unasked; a missing one is an
error that says where it comes from, no fallback.
"""

import hashlib
import os
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20


def weights_path(path: str | Path) -> Path:
    """Where `path` lies: a relative one starts from `GANSHRINK_WEIGHTS` where that is set."""
    root = os.environ.get("GANSHRINK_WEIGHTS", "")
    return Path(root) / Path(path).expanduser()  # an absolute path stays as it is


def find_weights(path: str | Path, *, origin: str) -> Path:
    """The weights file at `path`; a relative path starts from `GANSHRINK_WEIGHTS` where that is set.

    Args:
        origin: where a user gets the file and how to convert it; part of the error.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = weights_path(path)
    if not file.is_file():
        root = os.environ.get("GANSHRINK_WEIGHTS", "")
        hint = f"relative to GANSHRINK_WEIGHTS={root}" if root else "GANSHRINK_WEIGHTS is not set"
        raise FileNotFoundError(f"no weights file {file} ({hint}). {origin}")
    return file


def fetch_weights(url: str, target: Path, *, sha256: str) -> None:
    """Download a file to `target`, which comes to exist only with the right content. What came before a download broke
    off is kept in a .part file beside it, and the next call goes on from there where the server can.

    Args:
        sha256: hexadecimal digits of what the file must be, all 64 or as many of the first as are known.

    Raises:
        FileExistsError: there is another file at `target`; it is left alone.
        ConnectionError: the file cannot be had from there, or not all of it.
        ValueError: what came is not the file; nothing is kept of it.
    """
    if target.exists():
        if not file_hash(target).startswith(sha256):
            raise FileExistsError(f"{target} is another file than {url}: move it away first")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    _download(url, part)
    found = file_hash(part)
    if not found.startswith(sha256):
        part.unlink()
        raise ValueError(
            f"{url} gave a file with SHA-256 {found}, expected {sha256}: nothing was kept, try again"
        )
    part.replace(target)


def _download(url: str, part: Path) -> None:
    """What `part` lacks of the file, all of it where the server cannot give the rest alone."""
    had = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={had}-"} if had else {})
    try:
        with urlopen(request, timeout=TIMEOUT) as response:
            left = response.headers.get("Content-Length")
            with part.open("ab" if response.status == 206 else "wb") as file:
                start = file.tell()
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                lacking = 0 if left is None else start + int(left) - file.tell()
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is also the response, and holds the connection
            if had and error.code == 416:  # no byte is left: all came the last time
                return
        raise ConnectionError(f"cannot download {url}: {error}") from error
    if lacking:
        raise ConnectionError(
            f"{url} broke off {lacking} bytes before its end: the same command goes on from there"
        )


def file_hash(file: Path) -> str:
    """The file's SHA-256 in 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_hash(file: Path) -> str:
    """The first 12 hexadecimal digits of the file's SHA-256."""
    return file_hash(file)[:12]


def load_judge(network: nn.Module, file: Path, *, device: str | torch.device) -> nn.Module:
    """The network, ready to judge on `device`, from a file of exactly its names and shapes.

    The file is a safetensors file or, if its name ends in .pth, what `torch.save` made of a state dict; of the
    latter only tensors are read, no code. BatchNorm's batch counters are not weights: files without them are
    complete.

    Raises:
        ValueError: the file cannot be read as what its name says, or holds another network.
    """
    return fill_judge(network, read_weights(file), file, device=device)


def read_weights(file: Path) -> dict[str, Tensor]:
    """All tensors of a weights file by name; ValueError where it cannot be read as what its name says."""
    return _read_pickled(file) if file.suffix == ".pth" else _read_safetensors(file)


def fill_judge(
    network: nn.Module, given: dict[str, Tensor], file: Path, *, device: str | torch.device
) -> nn.Module:
    """As `load_judge`, with the tensors already read: `file` is where they are from, for the error."""
    wanted = {name: value for name, value in network.state_dict().items() if not _is_counter(name)}
    given = {name: value for name, value in given.items() if not _is_counter(name)}
    problem = _difference(wanted, given)
    if problem:
        raise ValueError(f"{file} does not fit {type(network).__name__}: {problem}")
    # torch fills in the counters only for state dicts without version metadata, which a plain dict is.
    network.load_state_dict(given)
    # Measured on a CPU core: 1.7 times (ESPNet) and 1.9 times (SqueezeNet) faster than the default layout.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    network.requires_grad_(False)
    return network.to(device)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}") from error


def _read_pickled(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # a damaged pickle raises anything: UnicodeDecodeError, KeyError, AssertionError
        raise ValueError(f"{file} is damaged or holds more than tensors: nothing was read from it") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} does not hold a state dict: save network.state_dict() alone")
    return state


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _difference(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    missing = sorted(wanted.keys() - given.keys())
    if missing:
        return f"{len(missing)} tensors are missing, the first is {missing[0]}"
    extra = sorted(given.keys() - wanted.keys())
    if extra:
        return f"{len(extra)} tensors are not of this network, the first is {extra[0]}"
    for name, value in wanted.items():
        if value.shape != given[name].shape:
            return f"{name} is {tuple(given[name].shape)}, expected {tuple(value.shape)}"
    return ""
