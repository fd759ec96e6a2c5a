"""Weights files, ours and the field's: read without running code, renamed where the release is known, checked in full."""

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink.nets import cartoongan, mobile_resnet, resnet, unet

PICKLES = (".pth", ".pt", ".ckpt")
NESTS = (
    "params_ema",
    "params",
    "state_dict",
    "generator",
    "netG",
    "G",
)  # averaged weights before the raw ones
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

# How the tensors of a network's public release become ours; names of other origin pass unchanged.
RELEASES: Mapping[type[nn.Module], Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]] = {
    cartoongan.CartoonGAN: cartoongan.from_release,
    mobile_resnet.MobileResNet: mobile_resnet.from_release,
    resnet.ResNet: resnet.from_release,
    unet.UNet: unet.from_release,
}


def load_weights(path: str | Path, network: nn.Module, *, setting: str = "weights") -> dict[str, Tensor]:
    """The tensors of a weights file that fit a network: exactly its names, shapes and types, on the CPU.

    Takes .safetensors, and .pth, .pt or .ckpt files of plain tensors, which are read without running any code in
    them. The tensors may lie in a dictionary under one of `NESTS` and carry the prefixes of `WRAPPERS`; those of a
    public release (`RELEASES`) are renamed. Statistics that old versions of torch saved for instance norms are
    dropped, the counters of batch norms may be missing, and half precision becomes the network's own.

    Args:
        setting: what named the file; the errors begin with it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, would run code, or holds another network; the first tensor that
            differs is named.
    """
    state = _unwrapped(_tensors(Path(path), setting))
    if release := RELEASES.get(type(network)):
        state = release(state, network)
    own = network.state_dict()
    state = {name: t for name, t in state.items() if name in own or not _is_statistic(name, network)}
    counters = {name: t for name, t in own.items() if name.endswith("num_batches_tracked")}
    state = counters | state
    if problem := _difference(own, state):
        raise ValueError(
            f"{setting}: {path} does not fit: {problem}; check [net], the network's name and options"
        )
    return {name: state[name].detach().to(own[name].dtype).contiguous() for name in own}


def _tensors(path: Path, setting: str) -> dict[str, Tensor]:
    """The named tensors of a file."""
    if path.is_dir():
        raise ValueError(f"{setting}: {path} is a folder; name the weights file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{setting}: there is no weights file {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{setting}: {path} is not a readable safetensors file: {error}") from None
    if path.suffix not in PICKLES:
        kinds = ", ".join((".safetensors", *PICKLES))
        raise ValueError(f"{setting}: {path} must be a weights file ending in one of {kinds}")
    content = _unpickled(path, setting)
    while nest := next(
        (n for n in NESTS if isinstance(content, dict) and isinstance(content.get(n), dict)), None
    ):
        content = content[nest]
    entries = content.items() if isinstance(content, dict) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"{setting}: {path} holds no named tensors, alone or under one of {', '.join(NESTS)}"
        )
    return tensors


def _unpickled(path: Path, setting: str) -> Any:
    """What `torch.load` makes of a file without running code."""
    try:
        with warnings.catch_warnings():  # torch's advice is for who wrote the file
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = found[1] if found else "something that torch cannot read safely"
        raise ValueError(
            f"{setting}: {path} is refused: it holds {held}, and to load more than plain tensors could run any code; "
            "where you trust the file, convert it: save the network's state_dict() as .safetensors"
        ) from None
    except (
        Exception
    ) as error:  # a damaged file makes torch raise anything: EOFError, KeyError, RuntimeError, OSError
        reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise ValueError(f"{setting}: {path} is damaged or no weights file ({reason})") from None


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that wrappers put before every name."""
    while prefix := next((w for w in WRAPPERS if tensors and all(n.startswith(w) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_statistic(name: str, network: nn.Module) -> bool:
    """Whether a tensor is a running statistic for an instance norm that keeps none."""
    module, _, tensor = name.rpartition(".")
    if tensor not in STATISTICS:
        return False
    try:
        return isinstance(network.get_submodule(module), nn.InstanceNorm2d)
    except AttributeError:
        return False


def _difference(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own:
            return f"{'the network' if name not in own else 'the file'} has no {name!r}"
        if own[name].shape != state[name].shape:
            return (
                f"{name!r} is {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
            )
        if own[name].is_floating_point() != state[name].is_floating_point():
            return f"{name!r} is {state[name].dtype} in the file, {own[name].dtype} in the network"
    return ""
