"""Networks by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ganshrink.nets.cartoongan import CartoonGAN
from ganshrink.nets.devicenet import DeviceNet
from ganshrink.nets.incres import IncRes
from ganshrink.nets.incres_spade import IncGauGAN
from ganshrink.nets.mobile_resnet import MobileResNet
from ganshrink.nets.patchgan import PatchGAN
from ganshrink.nets.pix2pixhd import LocalEnhancer
from ganshrink.nets.resnet import ResNet
from ganshrink.nets.rrdb import RRDBNet
from ganshrink.nets.sagan import SAGAN
from ganshrink.nets.spade import GauGAN, MobileGauGAN
from ganshrink.nets.srvgg import SRVGG
from ganshrink.nets.stylegan2 import StyleGAN2
from ganshrink.nets.unet import UNet
from ganshrink.system.own import call, chosen
from ganshrink.system.spelling import did_you_mean

NETS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet9": partial(ResNet, blocks=9),
    "resnet6": partial(ResNet, blocks=6),
    "mobile_resnet9": partial(MobileResNet, blocks=9),
    "unet256": partial(UNet, downs=8),
    "unet128": partial(UNet, downs=7),
    "incres9": partial(IncRes, blocks=9),
    "pix2pixhd": partial(ResNet, blocks=9, halvings=4),
    "pix2pixhd_local": LocalEnhancer,
    "gaugan": GauGAN,
    "incres_gaugan": IncGauGAN,
    "mobile_gaugan": MobileGauGAN,
    "cartoongan": CartoonGAN,
    "devicenet": DeviceNet,
    "rrdb": RRDBNet,
    "srvgg": SRVGG,
    "sagan": SAGAN,
    "stylegan2": StyleGAN2,
    "patchgan": PatchGAN,
}


def net_options(name: str) -> dict[str, Any]:
    """The options that `build(name, ...)` takes, with their defaults.

    For a network of the user's own (`MODULE:NAME`), or of another package, the module is imported; an option without a
    default has `inspect.Parameter.empty`.

    Raises:
        ValueError: for an unknown name, with the nearest valid one.
    """
    return {
        p.name: p.default
        for p in inspect.signature(maker(name)).parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


def build(name: str, **options: Any) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: one of `NETS`, one that an installed package registers, or `MODULE:NAME` of the user's own, such as
            `my_pkg.nets:make`: a function or class that is imported from the installed packages or the working directory
            and called. This runs that code.
        options: what the network's constructor takes, such as `ngf=32` or `norm="batch"`.

    Raises:
        ValueError: for an unknown name or option, with the nearest valid one, and if code of the user's own fails.
    """
    make = maker(name)
    known = net_options(name)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(make).parameters.values())
    for option in options:
        if option not in known and not open_ended:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
    if name in NETS:
        _check_numbers(name, options, known)
        return make(**options)
    missing = [key for key in known if known[key] is inspect.Parameter.empty and key not in options]
    if missing:
        raise ValueError(f"{name} has no default for {', '.join(missing)}; give a value")
    network = call(name, make, **options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return an nn.Module, got {type(network).__name__}")
    return network


def maker(name: str) -> Callable[..., Any]:
    """The function or class that makes the network of a name; raises as `net_options`."""
    make = chosen("nets", name, NETS)
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(
            f"{name} must be a function or class that makes a network, not {type(make).__name__}"
        )
    return make


def _check_numbers(name: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if isinstance(known[option], int) and (type(value) is not type(known[option]) or value < 0):
            raise ValueError(f"{name}: {option} must be a whole number from 0, got {value!r}")
