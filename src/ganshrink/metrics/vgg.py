"""VGG (Simonyan and Zisserman 2015), whose features the perceptual distance compares.

Two releases are known by the names of their tensors. torchvision's VGG-16 is the one of GAN Slimming's code, which
feeds it [0, 1] without ImageNet's mean and deviation. The normalised VGG-19 of style transfer (Huang and
Belongie 2017 use it) has its preprocessing in a first 1x1 convolution and reflected borders; of it the part up to
relu3_1 is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ganshrink.losses.perceptual import STYLE_WEIGHT, perceptual_distance
from ganshrink.metrics.value import as_rgb
from ganshrink.metrics.weights import fill_judge, find_weights, read_weights, short_hash

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
LEAST_SIDE = 8  # below it a pooling has nothing left, or a border nothing to reflect


@dataclass(frozen=True)
class Layout:
    """A release: where in its list of layers the convolutions stand, how wide they are, which outputs are named."""

    name: str
    prefix: str  # of its tensors' names
    convs: dict[int, int]  # position: output channels
    pools: tuple[int, ...]
    taps: dict[int, str]
    style_weight: float  # brings the Gram terms of far images to the size of the content term
    online: tuple[float, float]  # the weights of style and feature in the online distillation loss

    def says(self) -> str:
        """How its file is recognised, in words."""
        return f"{self.name} (convolutions {', '.join(f'{self.prefix}{n}' for n in self.convs)})"


VGG16 = Layout(
    "torchvision's VGG-16 without batch norm",
    "features.",
    {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512},
    pools=(4, 9, 16),
    taps={3: "relu1_2", 8: "relu2_2", 15: "relu3_3", 22: "relu4_3"},
    style_weight=STYLE_WEIGHT,
    online=(1e4, 10),
)
VGG19_NORMALISED = Layout(
    "the normalised VGG-19",
    "",
    {0: 3, 2: 64, 5: 64, 9: 128, 12: 128, 16: 256},
    pools=(7, 14),
    taps={6: "relu1_2", 13: "relu2_2", 17: "relu3_1"},
    style_weight=1e3,  # its features are larger, by about (1e5 / 1e3) ** (1 / 3) by these two weights
    online=(500, 2),  # so about 1e4 / 4.6**2 and 10 / 4.6
)
LAYOUTS = (VGG16, VGG19_NORMALISED)  # whose features the perceptual distance compares
VGG19 = Layout(
    "torchvision's VGG-19 without batch norm",
    "features.",
    {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256}
    | {19: 512, 21: 512, 23: 512, 25: 512, 28: 512},
    pools=(4, 9, 18, 27),
    taps={1: "relu1_1", 6: "relu2_1", 11: "relu3_1", 20: "relu4_1", 29: "relu5_1"},
    style_weight=STYLE_WEIGHT,
    online=(0, 0),
)
"""Of the losses of pix2pixHD and GauGAN alone."""

VGG16_FILE, VGG19_FILE = "vgg16-397923af.pth", "vgg19-dcbb9e9d.pth"
ORIGIN = (
    f"`ganshrink fetch vgg16` downloads torchvision's: then set metrics.vgg = '{VGG16_FILE}'. Or get "
    f"{VGG16_FILE}, or vgg_normalised.pth of a public AdaIN release, and name its path; "
    "or save such a state dict with safetensors"
)
ORIGIN_19 = f"`ganshrink fetch vgg19` downloads torchvision's: then set task.vgg = '{VGG19_FILE}'"


class VGG(nn.Module):
    """The trunk, frozen, with its preprocessing inside. Made by `load_vgg`.

    Attributes:
        content: the layer of the perceptual distance's content term.
        style: the layers of its style terms, all that `forward` gives.
        style_weight: of those terms: 1e5 for VGG-16, as in GAN Slimming's code, 1e3 for the normalised VGG-19.
        online: weights of style and feature in OMGD's loss: 1e4 and 10 for VGG-16, as in its code, 500 and 2 for VGG-19.
        name: which release, with which preprocessing.
        sha256: the first 12 digits of the weights file's hash.
    """

    mean: Tensor
    std: Tensor
    content = "relu1_2"

    def __init__(self, layout: Layout, *, normalize: bool = False, sha256: str = "") -> None:
        super().__init__()
        self.features = _vgg19_normalised() if layout is VGG19_NORMALISED else _torchvision(layout)
        self.taps = layout.taps
        self.style = tuple(layout.taps.values())
        self.style_weight, self.online = layout.style_weight, layout.online
        self.name = layout.name + (", ImageNet mean and deviation" if normalize else "")
        self.sha256 = sha256
        mean, std = (MEAN_RGB, STD_RGB) if normalize else ((0.0,) * 3, (1.0,) * 3)
        if layout is VGG19:  # both released codes give it images in [-1, 1] as they are
            mean, std = (0.5,) * 3, (0.5,) * 3
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Named features (B, C, h, w) of images (B, 3, H, W) in [-1, 1], or grey ones; gradients reach the images.

        Raises:
            ValueError: images of other channels, or smaller than 8x8.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < LEAST_SIDE:
            raise ValueError(
                f"VGG takes RGB images (B, 3, H, W), or grey ones, of at least {LEAST_SIDE}x{LEAST_SIDE}, got "
                f"{tuple(images.shape)}"
            )
        x = (as_rgb(images).float().add(1).div(2) - self.mean) / self.std
        found = {}
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in self.taps:
                found[self.taps[position]] = x
        return found

    def distance(self, fake: Tensor, target: Tensor, *, style_weight: float | None = None) -> Tensor:
        """The perceptual distance of images (B, 3, H, W) in [-1, 1], a float32 scalar; the target is taken as a constant.

        Args:
            style_weight: of the Gram terms; none: the release's own.
        """
        weight = self.style_weight if style_weight is None else style_weight
        with torch.autocast(
            fake.device.type, enabled=False
        ):  # near zero, bfloat16's gradient points anywhere
            with torch.no_grad():
                theirs = self(target)
            ours = self(fake)
            return perceptual_distance(
                ours, theirs, content=self.content, style=self.style, style_weight=weight
            )


def load_vgg(path: str | Path, device: str | torch.device = "cpu", *, normalize: bool = False) -> VGG:
    """VGG of either release that the perceptual distance knows; what lies behind its last named layer is not read.

    Args:
        path: a safetensors or .pth file; a relative one starts from `GANSHRINK_WEIGHTS` where that is set.
        normalize: subtract ImageNet's mean and divide by its deviation first, as VGG-16 was trained.

    Raises:
        FileNotFoundError: no such file; the message says where it comes from.
        ValueError: the file holds something else, or `normalize` is asked of the normalised VGG-19.
    """
    return _load(path, LAYOUTS, ORIGIN, device, normalize)


def load_vgg19(path: str | Path) -> VGG:
    """torchvision's VGG-19, up to relu5_1, for images in [-1, 1]. Raises as `load_vgg`."""
    return _load(path, (VGG19,), ORIGIN_19, "cpu", False)


def _load(
    path: str | Path, known: Sequence[Layout], origin: str, device: str | torch.device, normalize: bool
) -> VGG:
    file = find_weights(path, origin=origin)
    state = read_weights(file)
    layout = _recognise(state, file, known, origin)
    if normalize and layout is VGG19_NORMALISED:
        raise ValueError(f"{file} is {layout.name}, which has its preprocessing inside: leave normalize off")
    wanted = {
        f"features.{n}.{kind}": f"{layout.prefix}{n}.{kind}"
        for n in layout.convs
        for kind in ("weight", "bias")
    }
    network = VGG(layout, normalize=normalize, sha256=short_hash(file))
    given = {ours: state[theirs] for ours, theirs in wanted.items() if theirs in state}
    try:
        return cast(VGG, fill_judge(network, given, file, device=device))
    except ValueError as error:
        raise ValueError(f"{error}. {origin}") from None


def _recognise(state: dict[str, Tensor], file: Path, known: Sequence[Layout], origin: str) -> Layout:
    """The layout whose convolutions the file begins with: VGG-16, -19 and their batch norm forms differ in them."""
    for layout in known:
        last = max(layout.convs)
        if [n for n in _convolutions(state, layout.prefix) if n <= last] == list(layout.convs):
            return layout
    named = [name.removesuffix(".weight") for name, tensor in state.items() if tensor.ndim == 4]
    named.sort(key=lambda name: (len(name), name))  # features.2 before features.10
    found = f"{', '.join(named[:12])}{', ...' if len(named) > 12 else ''}" if named else "none"
    accepted = " and ".join(layout.says() for layout in known)
    raise ValueError(
        f"{file} is no VGG known here: its convolutions are {found}; known are {accepted}. {origin}"
    )


def _convolutions(state: dict[str, Tensor], prefix: str) -> list[int]:
    """The numbers under `prefix` that have a convolution's weight, in order."""
    names = [
        name.removeprefix(prefix).split(".")
        for name, t in state.items()
        if name.startswith(prefix) and t.ndim == 4
    ]
    return sorted(int(words[0]) for words in names if words[0].isdecimal() and words[1:] == ["weight"])


def _torchvision(layout: Layout) -> nn.Sequential:
    """torchvision's `features` up to the last layer that is named: 23 of VGG-16, 30 of VGG-19."""
    layers: list[nn.Module] = []
    widths = (3, *layout.convs.values())
    for inputs, outputs in pairwise(widths):
        if len(layers) in layout.pools:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _vgg19_normalised() -> nn.Sequential:
    """Positions 0 to 17: the first turns RGB in [0, 1] into BGR in 0..255 less the mean."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    for inputs, outputs in pairwise(VGG19_NORMALISED.convs.values()):
        if len(layers) in VGG19_NORMALISED.pools:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]
    return nn.Sequential(*layers)
