"""The weights of one network out of a checkpoint of any layout, checked in full."""

import logging
from pathlib import Path

from torch import Tensor, nn

from ganshrink.nets.checkpoint_file import levels, listed, preferred, read_networks, split_key
from ganshrink.nets.fitting import Fit, Misfit, State, fit
from ganshrink.nets.recognise import Unknown, recognise

logger = logging.getLogger(__name__)
SHOWN = 3  # pairs of names in a message


def load_weights(path: str | Path, network: nn.Module, *, setting: str = "weights") -> dict[str, Tensor]:
    """The tensors of a checkpoint that fit a network: exactly its names, shapes and types, on the CPU.

    Takes .safetensors, and .pth, .pt, .ckpt and the like, which are read without running any code in them, of any layout
    (docs/checkpoints.md). Of several networks in a file the one that fits is taken, averaged weights (EMA) before raw
    ones; `FILE:KEY` names one. What was done is logged.

    Args:
        setting: what named the file; the errors begin with it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, would run code, or holds another network, or several that fit; the first
            tensor that differs is named, or what is in the file.
    """
    file, key = split_key(path)
    networks = read_networks(file, setting)
    if key is not None:
        networks = {key: named_network(networks, key, file, setting)}
    fits: dict[str, Fit] = {}
    misfits: dict[str, str] = {}
    for level in levels(networks):
        for name, state in level.items():
            try:
                fits[name] = fit(state, network)
            except Misfit as misfit:
                misfits.setdefault(name, str(misfit))
        if fits:
            break
    if not fits:
        raise ValueError(_nothing_fits(f"{setting}: {file}", networks, misfits))
    chosen = preferred(list(fits))
    if len(chosen) > 1:
        raise ValueError(
            f"{setting}: {file} holds several networks that fit: {', '.join(chosen)}; choose one: {file.name}:{chosen[0]}"
        )
    tell(file, chosen[0], fits[chosen[0]], others=[name for name in fits if name != chosen[0]])
    return fits[chosen[0]].state


def named_network(networks: dict[str, State], key: str, file: Path, setting: str) -> State:
    """The network that a key leads to; its last parts are enough.

    Raises:
        ValueError: if there is none; the message lists what is in the file.
    """
    for level in levels(networks):
        found = [name for name in level if f".{name}".endswith(f".{key}")]
        if found:
            return level[found[0]]
    raise ValueError(f"{setting}: {file} holds no network {key!r}; it holds {listed(networks)}")


def tell(file: Path, key: str, found: Fit, *, others: list[str]) -> None:
    """Log how a file's weights became a network's."""
    if others:
        logger.info("%s: averaged weights %s are taken, not %s", file.name, key, ", ".join(others))
    for note in found.notes:
        logger.info("%s: %s", file.name, note)
    if found.renamed:
        logger.info("%s: names differ; taken by order and shape, %s", file.name, renamed(found))


def renamed(found: Fit) -> str:
    """The first pairs of names, theirs and ours, and how many there are."""
    pairs = "; ".join(f"{theirs} is {ours}" for theirs, ours in found.renamed[:SHOWN])
    more = len(found.renamed) - SHOWN
    return f"{pairs}; and {more} more modules" if more > 0 else pairs


def _nothing_fits(where: str, networks: dict[str, State], misfits: dict[str, str]) -> str:
    if len(networks) > 1:
        reasons = "; ".join(f"{key or 'the file itself'}: {misfits[key]}" for key in networks)
        return f"{where} holds {listed(networks)}, and none fits the network: {reasons}"
    [(key, state)] = networks.items()
    try:
        held = f"; it holds {recognise(state).described}"
    except Unknown:
        held = ""
    return f"{where} does not fit: {misfits[key]}{held}; check [net], the network's name and options"
