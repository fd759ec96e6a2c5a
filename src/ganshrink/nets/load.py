"""Networks by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ganshrink.nets.incres import IncRes
from ganshrink.nets.patchgan import PatchGAN
from ganshrink.nets.resnet import ResNet
from ganshrink.nets.unet import UNet
from ganshrink.spelling import did_you_mean

NETS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet9": partial(ResNet, blocks=9),
    "unet256": partial(UNet, downs=8),
    "incres9": partial(IncRes, blocks=9),
    "patchgan": PatchGAN,
}


def net_options(name: str) -> dict[str, Any]:
    """The options that `build(name, ...)` takes, with their defaults."""
    if name not in NETS:
        raise ValueError(f"unknown network {name!r}{did_you_mean(name, NETS)}")
    parameters = inspect.signature(NETS[name]).parameters.values()
    return {p.name: p.default for p in parameters}


def build(name: str, **options: Any) -> nn.Module:
    """A freshly initialised network of this package.

    Args:
        name: one of `NETS`.
        options: what the network's constructor takes, such as `ngf=32` or `norm="batch"`.

    Raises:
        ValueError: for an unknown name or option, with the nearest valid one.
    """
    known = net_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
        if isinstance(known[option], int) and (
            type(options[option]) is not type(known[option]) or options[option] < 0
        ):
            raise ValueError(f"{name}: {option} must be a whole number from 0, got {options[option]!r}")
    return NETS[name](**options)
