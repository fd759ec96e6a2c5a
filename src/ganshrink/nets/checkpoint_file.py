"""Checkpoints of every origin: read without running code, and taken apart into the networks that they hold."""

import argparse
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganshrink.nets.graph_files import GRAPHS, read_graph

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin", ".pkl", *GRAPHS)
WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel, AveragedModel and torch.compile
COUNTERS = ("total_ops", "total_params", "n_averaged")  # of THOP and AveragedModel: no weights
AVERAGED = re.compile(r"(^|[._])(ema|avg|averaged|shadow|g_running)([._]|$)", re.IGNORECASE)
DEPTH = 3  # of the prefixes, such as `model.generator.`, that may stand before a network's own names

# What else than tensors a checkpoint may hold: plain records of settings and scores, whose classes run no code.
HARMLESS: list[Any] = [argparse.Namespace, PosixPath, np.dtype, *{type(np.dtype(kind)) for kind in "fdilqB?"}]
_scalar = np.float64(0).__reduce__()[0]  # whose path differs between versions of numpy
HARMLESS += [(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]


def split_key(path: str | Path) -> tuple[Path, str | None]:
    """`FILE:KEY` as the file and the network in it; a path without a key has none."""
    ends = "|".join(map(re.escape, SUFFIXES))
    found = re.fullmatch(rf"(.+(?:{ends})):([^/\\]+)", str(path))
    return (Path(found[1]), found[2]) if found else (Path(path), None)


def read_networks(path: Path, setting: str = "weights") -> dict[str, State]:
    """The networks of a checkpoint by the keys that lead to them, joined by dots; "" is the file itself.

    Names lose the prefixes of `WRAPPERS`, and the `COUNTERS` go. A file of one flat dictionary is one network: see `parts`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, would run code, or holds no network.
    """
    content = _content(path, setting)
    found = dict(_networks(content, ""))
    if not found:
        held = (
            ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
        )
        raise ValueError(f"{setting}: {path} holds no named tensors of a network, only: {held or 'nothing'}")
    return found


def parts(state: State) -> dict[str, State]:
    """The tensors of a flat dictionary by the first part of their names, which may each be a network."""
    groups: dict[str, State] = {}
    for name, tensor in state.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = tensor
    return {first: _unwrapped(group) for first, group in groups.items() if _has_weights(group)}


def levels(networks: Mapping[str, State]) -> Iterator[dict[str, State]]:
    """What may be a network, by its key: what the file keeps apart, then by the first prefix of names, and so on."""
    level = dict(networks)
    for _ in range(DEPTH + 1):
        if level:
            yield level
        level = {
            f"{key}.{first}" if key else first: inner
            for key, state in level.items()
            for first, inner in parts(state).items()
        }


def listed(networks: Mapping[str, State]) -> str:
    """The networks of a file with their sizes, for a message."""
    sizes = {key: sum(tensor.numel() for tensor in state.values()) for key, state in networks.items()}
    return ", ".join(f"{key or 'one network'} ({size:,} numbers)" for key, size in sizes.items())


def preferred(keys: list[str]) -> list[str]:
    """Averaged weights where there are some beside the raw ones, else all."""
    return [key for key in keys if AVERAGED.search(key)] or keys


def _content(path: Path, setting: str) -> Any:
    if path.is_dir():
        raise ValueError(f"{setting}: {path} is a folder; name the weights file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{setting}: there is no weights file {path}")
    if path.suffix in GRAPHS:
        return read_graph(path, setting).state
    if path.suffix == ".bin" and (graph := path.with_suffix(".param")).is_file():
        raise ValueError(f"{setting}: {path} is the weights of an ncnn network: name {graph.name}")
    if path.suffix == ".safetensors":
        try:
            return dict(sorted(load_file(path).items(), key=lambda item: _natural(item[0])))
        except SafetensorError as error:
            raise ValueError(f"{setting}: {path} is not a readable safetensors file: {error}") from None
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{setting}: {path} must be a weights file ending in one of {', '.join(SUFFIXES)}")
    return _unpickled(path, setting)


def _natural(name: str) -> list[tuple[bool, int | str]]:
    """A key that sorts numbers as such: safetensors keep no order, and `10` comes after `9` in a sequence of layers."""
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]


def _unpickled(path: Path, setting: str) -> Any:
    """What `torch.load` makes of a file without running code."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # torch's advice is for who wrote the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = found[1] if found else "something that torch cannot read safely"
        raise ValueError(
            f"{setting}: {path} is refused: it holds {held}, and to load more than plain tensors could run any code; "
            "where you trust the file, convert it with the code that made it: save network.state_dict() as .safetensors"
        ) from None
    except (
        Exception
    ) as error:  # a damaged file makes torch raise anything: EOFError, KeyError, RuntimeError, OSError
        if "TorchScript" in str(error):
            raise ValueError(
                f"{setting}: {path} is TorchScript, code and weights in one; save its weights: "
                f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
            ) from None
        reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise ValueError(f"{setting}: {path} is damaged or no weights file ({reason})") from None


def _networks(content: Any, key: str) -> Iterator[tuple[str, State]]:
    """Every dictionary of tensors in nested ones, but those of optimisers."""
    if isinstance(content, list | tuple):
        content = {str(place): value for place, value in enumerate(content)}
    if not isinstance(content, Mapping) or "param_groups" in content:
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    state = _unwrapped({name: value for name, value in named.items() if isinstance(value, Tensor)})
    if _has_weights(state):
        yield key, state
    for name, value in named.items():
        yield from _networks(value, f"{key}.{name}" if key else name)


def _unwrapped(state: State) -> State:
    state = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in COUNTERS}
    while prefix := next((w for w in WRAPPERS if state and all(n.startswith(w) for n in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _has_weights(state: State) -> bool:
    """Whether it may be a network's: a loss or a mean latent kept beside networks is no weight of a layer."""
    return any(tensor.ndim > 1 for tensor in state.values())
