"""What there is to choose from: this package's parts, and those that installed packages register."""

from collections.abc import Container
from typing import Any

from ganshrink.methods import METHODS
from ganshrink.nets import NETS, net_options
from ganshrink.system.own import Kind, origin, registered


def list_nets() -> tuple[dict[str, Any], str]:
    """Networks by name with their options, and the same as lines of text."""
    options = {name: net_options(name) for name in NETS}
    texts = {name: " ".join(f"{k}={v}" for k, v in known.items()) for name, known in options.items()}
    more = _registered("nets", NETS)
    return options | more, _lines(texts | more)


def list_methods() -> tuple[dict[str, Any], str]:
    """Methods by name with what they are, and the same as lines of text."""
    texts = {name: (method.__doc__ or "").strip().splitlines()[0] for name, method in METHODS.items()}
    listing = texts | _registered("methods", METHODS)
    return listing, _lines(listing)


def _registered(kind: Kind, known: Container[str]) -> dict[str, str]:
    """Where each registered part comes from, which is not imported; a name of this package's own stands for that."""
    return {name: origin(entry) for name, entry in registered(kind).items() if name not in known}


def _lines(texts: dict[str, str]) -> str:
    width = max(map(len, texts))
    return "\n".join(f"{name:{width}} {text}" for name, text in texts.items())
