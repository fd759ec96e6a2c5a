"""Networks by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ganshrink.nets.cartoongan import CartoonGAN
from ganshrink.nets.incres import IncRes
from ganshrink.nets.mobile_resnet import MobileResNet
from ganshrink.nets.own import build_own, own_options
from ganshrink.nets.patchgan import PatchGAN
from ganshrink.nets.resnet import ResNet
from ganshrink.nets.unet import UNet
from ganshrink.system.spelling import did_you_mean

NETS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet9": partial(ResNet, blocks=9),
    "resnet6": partial(ResNet, blocks=6),
    "mobile_resnet9": partial(MobileResNet, blocks=9),
    "unet256": partial(UNet, downs=8),
    "unet128": partial(UNet, downs=7),
    "incres9": partial(IncRes, blocks=9),
    "cartoongan": CartoonGAN,
    "patchgan": PatchGAN,
}


def net_options(name: str) -> dict[str, Any]:
    """The options that `build(name, ...)` takes, with their defaults.

    For a network of the user's own (`MODULE:NAME`) the module is imported; an option without a default has
    `inspect.Parameter.empty`.

    Raises:
        ValueError: for an unknown name, with the nearest valid one.
    """
    if ":" in name:
        return own_options(name)
    if name not in NETS:
        raise ValueError(f"unknown network {name!r}{did_you_mean(name, NETS)}")
    parameters = inspect.signature(NETS[name]).parameters.values()
    return {p.name: p.default for p in parameters}


def build(name: str, **options: Any) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: one of `NETS`, or `MODULE:NAME` of the user's own, such as `my_pkg.nets:make`: a function or class that
            is imported from the installed packages or the working directory and called. This runs that code.
        options: what the network's constructor takes, such as `ngf=32` or `norm="batch"`.

    Raises:
        ValueError: for an unknown name or option, with the nearest valid one, and if code of the user's own fails.
    """
    if ":" in name:
        return build_own(name, options)
    known = net_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
        if isinstance(known[option], int) and (
            type(options[option]) is not type(known[option]) or options[option] < 0
        ):
            raise ValueError(f"{name}: {option} must be a whole number from 0, got {options[option]!r}")
    return NETS[name](**options)
