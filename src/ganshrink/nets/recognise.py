"""Which of our networks a state dictionary is of, read off the shapes of its convolutions and the names around them.

A guess is believed only where every tensor then fits the network that it names.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch

from ganshrink.nets.fitting import Fit, Misfit, State, fit
from ganshrink.nets.load import build, net_options
from ganshrink.nets.spade import MULTIPLES

NO_WEIGHTS = (".filt", ".weight_g", ".original0")  # four axes, but a blur or the lengths of a weight norm
Shapes = list[tuple[int, ...]]
Guess = tuple[str, dict[str, Any]]  # a network's name and options

# Names that only one code has, and what it is. "later": it has no network here yet.
LAYOUTS: Mapping[str, str] = {
    r"model\.\d+\.conv_block\.\d+\.conv\.\d+\.": "GAN Compression",
    r"model\.\d+\.filt$": "CUT",
    r"model1_1\.\d+\.": "pix2pixHD's local enhancer",
    r"model\.\d+\.conv_block\.\d+\.": "pytorch-CycleGAN-and-pix2pix",
    r"model\.model\.\d\.": "pytorch-CycleGAN-and-pix2pix (U-Net)",
    r"decoder\.model\.\d+\.": "joliGEN",
    r"features\.\d+\.(res_ops|dw_ops|pw_bn)\.": "the release of incres9",
    r"body\.\d+\.rdb1\.|RRDB_trunk\.": "BasicSR (Real-ESRGAN, ESRGAN)",
    r"deconv0\d_\d\.|in0\d_\d\.": "the CartoonGAN release",
    r"\.mlp_shared\.": "SPADE",
}
LATER: Mapping[str, str] = {
    r"(^|\.)(gap_fc|UpBlock1_\d|adalin|rho)\b": "U-GAT-IT",
    r"\.modulation\.(weight|bias)$": "StyleGAN2",
    r"relative_position_bias_table": "a Swin transformer (SwinIR)",
    r"(^|\.)block_[a-e]\.": "AnimeGANv2",
    r"(^|\.)enc_content\.": "MUNIT",
}


class Unknown(ValueError):
    """No network of ours; says what it looks like."""


@dataclass
class Recognised:
    """A network that every tensor of a state dictionary fits.

    Attributes:
        name, options: for `build`; options that are the network's defaults are left out.
        layout: whose names the tensors bear, or "" for an unknown layout.
        fit: the tensors under our names.
    """

    name: str
    options: dict[str, Any]
    layout: str
    fit: Fit

    @property
    def described(self) -> str:
        """The network in words, such as `resnet9 with ngf = 32`."""
        options = ", ".join(f"{key} = {value}" for key, value in self.options.items())
        return f"{self.name}{' with ' if options else ''}{options}"


def recognise(state: State) -> Recognised:
    """The network of ours that a state dictionary is of, strictly: every tensor fits.

    Raises:
        Unknown: if it is none; the message says what was seen.
    """
    later = _named(state, LATER)
    if later:
        raise Unknown(f"it looks like {later}, for which there is no network here yet")
    shapes = [tuple(t.shape) for name, t in state.items() if t.ndim == 4 and not name.endswith(NO_WEIGHTS)]
    norm = _norm(state)
    nearest = ""
    for name, options in _guesses(shapes, state):
        known = net_options(name)
        options = {key: value for key, value in (norm | options).items() if key in known}
        options = {key: value for key, value in options.items() if value != known[key]}
        try:
            with torch.device("meta"):
                network = build(name, **options)
            found = fit(state, network)
            found.notes += _advice(name, options, state)
            return Recognised(name, options, _named(state, LAYOUTS), found)
        except Misfit as misfit:
            nearest = nearest or f"; the nearest is {name}, but {misfit}"
    raise Unknown(
        f"{len(shapes)} convolutions, first {shapes[0] if shapes else 'none'}, last {shapes[-1] if shapes else 'none'}: no "
        f"network of this package{nearest}"
    )


def _advice(name: str, options: Mapping[str, Any], state: State) -> Iterator[str]:
    """What the tensors do not decide, and the user must know."""
    if any(re.search(r"conv_block\.6\.(conv\.0\.)?weight$", n) and t.ndim == 4 for n, t in state.items()):
        yield "its blocks have dropout, which is off here; where it stayed on at test time, its pictures were random"
    if name == "gaugan":
        yield "weights do not tell how often it doubles the size: 6 times is taken, as for Cityscapes; else add doublings=5"
        if options.get("styles"):
            yield "weights do not tell the sides of its pictures: they are taken as alike, or one as twice the other"
    if (
        options.get("norm") != "batch"
        and name != "gaugan"
        and any(name.endswith(".running_mean") for name in state)
    ):
        yield "its norms are taken for instance norms of an old torch; were they batch norms, add norm=batch"
    if name != "gaugan" and options.get("norm", net_options(name).get("norm")) == "batch":
        yield (
            "its batch norms use their statistics; where they ran in training mode at test time, as pix2pix's do without "
            "--eval, add norm=instance affine=true: at batch 1 the same"
        )


def is_judge(name: str) -> bool:
    """Whether a network is a discriminator."""
    return name == "patchgan"


def _named(state: State, table: Mapping[str, str]) -> str:
    return next((what for pattern, what in table.items() if any(re.search(pattern, n) for n in state)), "")


def _norm(state: State) -> dict[str, Any]:
    """The kind of the norms: batch norms have statistics, instance norms a scale at most.

    Instance norms saved by torch before 0.4 have statistics too, which they did not use: without the counter of batches
    that came later, and after convolutions with a bias, which batch norms do without.
    """
    ends = {name.rpartition(".")[2] for name in state}
    scales = any(t.ndim == 1 and name.endswith((".weight", ".scale", ".gamma")) for name, t in state.items())
    if "running_mean" not in ends:
        return {"norm": "instance", "affine": True if scales else None}
    old = "num_batches_tracked" not in ends and _biased(state)
    if old or not scales:
        return {"norm": "instance", "affine": True if scales else None}
    return {"norm": "batch"}


def _biased(state: State) -> bool:
    """Whether all convolutions have a bias."""
    convs = [name.rpartition(".")[0] for name, tensor in state.items() if tensor.ndim == 4]
    return all(f"{conv}.bias" in state for conv in convs)


def _guesses(shapes: Shapes, state: State) -> Iterator[Guess]:
    """Networks whose convolutions have these shapes, in this order; (in, out, k, k) where transposed."""
    if len(shapes) < 3:
        return
    first, last = shapes[0], shapes[-1]
    kernels = {shape[2:] for shape in shapes}
    if {"fc.weight", "conv_img.weight", "head_0.norm_0.mlp_gamma.weight"} <= state.keys():
        yield _of_labels(state)
    if kernels == {(4, 4)}:
        yield from _of_strides(shapes)
    elif first[2:] == last[2:] and first[0] == last[1] and first[2] in (7, 3) and len(shapes) > 6:
        yield from _residual(shapes, state)
    elif first[0] > last[1] and first[2:] == last[2:] == (7, 7) and len(shapes) > 6:
        yield from _enhanced(shapes)
    if kernels == {(3, 3)}:
        yield from _super_resolution(shapes, state)


def _of_strides(shapes: Shapes) -> Iterator[Guess]:
    """4x4 convolutions alone: a U-Net ends in a transposed convolution of twice the first one's width, a PatchGAN in one
    channel."""
    (width, inside, *_), last = shapes[0], shapes[-1]
    if last[0] == 1:
        yield "patchgan", {"in_channels": inside, "ndf": width, "layers": len(shapes) - 2}
    elif last[0] == 2 * width and len(shapes) % 2 == 0:
        downs = len(shapes) // 2
        name = "unet128" if downs == 7 else "unet256"
        sizes = {"downs": downs} if downs not in (7, 8) else {}
        yield name, {"in_channels": inside, "out_channels": last[1], "ngf": width} | sizes


def _of_labels(state: State) -> Guess:
    """GauGAN's generator, by the names of its code; a spectral norm, where there is one, is folded."""
    outside, ngf = state["conv_img.weight"].shape[:2]
    first = state["fc.weight"]
    style: dict[str, Any] = {}
    if first.ndim == 2:  # of a style; the smallest size is a square, or twice as wide as high
        pixels = first.shape[0] // (MULTIPLES[0] * ngf)
        side = isqrt(pixels) if isqrt(pixels) ** 2 == pixels else isqrt(pixels // 2)
        style = {"styles": first.shape[1], "height": 64 * side, "width": 64 * (pixels // max(side, 1))}
    tracked = "head_0.norm_0.param_free_norm.running_mean" in state
    return "gaugan", {
        "in_channels": state["head_0.norm_0.mlp_shared.0.weight"].shape[1],
        "out_channels": outside,
        "ngf": ngf,
        "hidden": state["head_0.norm_0.mlp_shared.0.weight"].shape[0],
        "norm": "batch" if tracked else "instance",
        "spectral": False,
        **style,
    }


def _residual(shapes: Shapes, state: State) -> Iterator[Guess]:
    """A stem, halvings that double the channels, residual blocks, and back."""
    (width, inside, kernel, _), (outside, *_) = shapes[0], shapes[-1]
    ends = {"in_channels": inside, "out_channels": outside, "ngf": width}
    if shapes[1:3] == [(2 * width, width, 3, 3), (2 * width, 2 * width, 3, 3)] or _named(
        state, LAYOUTS
    ).endswith("release"):
        yield "cartoongan", ends | {"blocks": (len(shapes) - 10) // 2, "kernel": kernel}
        return
    halvings = _halvings(shapes)
    middle = shapes[1 + halvings : -1 - halvings]
    antialias = any(name.endswith(".filt") for name in state)
    size = ends | {"halvings": halvings, "antialias": antialias}
    for name, convs in (("resnet", 2), ("mobile_resnet", 4), ("incres", 15)):
        blocks = len(middle) // convs
        if middle and len(middle) == convs * blocks and _is_block(name, middle[:convs]):
            named = f"{name}{blocks}" if (name, blocks) in (("resnet", 6), ("resnet", 9)) else f"{name}9"
            yield named, size | {"blocks": blocks}


def _halvings(shapes: Shapes) -> int:
    """How many convolutions after the first double its width, one after the other."""
    width, halvings = shapes[0][0], 0
    while shapes[1 + halvings][:2] == (width * 2 ** (halvings + 1), width * 2**halvings):
        halvings += 1
    return halvings


def _enhanced(shapes: Shapes) -> Iterator[Guess]:
    """Pix2pixHD's global generator without its end, then enhancers, each with a first convolution of 7x7 as it has."""
    enhancers = sum(shape[2] == 7 for shape in shapes) - 2
    halvings = _halvings(shapes)
    wide = (shapes[0][0] * 2**halvings,) * 2
    blocks = sum(shape[:2] == wide for shape in shapes) // 2
    local = len(shapes) - 2 - 2 * halvings - 2 * blocks - 3 * enhancers
    if enhancers > 0 and halvings and local >= 0 and local % (2 * enhancers) == 0:
        yield (
            "pix2pixhd_local",
            {
                "in_channels": shapes[0][1],
                "out_channels": shapes[-1][0],
                "ngf": shapes[-1][1],
                "blocks": blocks,
                "local_blocks": local // (2 * enhancers),
                "enhancers": enhancers,
                "halvings": halvings,
            },
        )


def _is_block(name: str, shapes: Shapes) -> bool:
    """Whether the first block's convolutions are those of a kind of residual block."""
    plain = all(shape[0] == shape[1] and shape[2] == 3 for shape in shapes)
    depthwise = any(shape[1] == 1 for shape in shapes)
    return {"resnet": plain, "mobile_resnet": depthwise, "incres": depthwise}[name]


def _super_resolution(shapes: Shapes, state: State) -> Iterator[Guess]:
    """3x3 convolutions alone, as BasicSR names them or with such names changed; the scale shows at the end or the start."""
    if "conv_first.weight" in state and "conv_last.weight" in state:  # a file may have sorted its names
        middle = [tuple(t.shape) for name, t in state.items() if t.ndim == 4 and "rdb" in name.lower()]
        rest = [tuple(state[f"{name}.weight"].shape) for name in ("conv_first", "conv_last")]
        shapes = [rest[0], *middle, *[rest[1]] * (len(shapes) - len(middle) - 1)]
    (width, inside, *_), (outside, *_) = shapes[0], shapes[-1]
    slopes = sum(tensor.ndim == 1 and name.endswith("weight") for name, tensor in state.items())
    if slopes == len(shapes) - 1:
        scale = isqrt(outside // inside)
        channels = {"in_channels": inside, "out_channels": inside}
        yield "srvgg", channels | {"ngf": width, "convs": len(shapes) - 2, "scale": scale}
    elif (len(shapes) - 6) % 15 == 0:
        unshuffle = isqrt(inside // outside) if inside > outside else 1
        size = {"growth": shapes[1][0], "scale": 4 // max(unshuffle, 1), "blocks": (len(shapes) - 6) // 15}
        yield "rrdb", {"in_channels": inside // unshuffle**2, "out_channels": outside, "ngf": width} | size
