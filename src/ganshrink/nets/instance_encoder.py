"""Pix2pixHD's encoder of instances (Wang et al. 2018, section 3.4): a few numbers for each thing in a photo, which say how
it looks, as its label does not."""

from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.nets.layers import head, needs_bias, norm_layer, stem

INSTANCES = 1024  # that one photo may have


def instance_means(features: Tensor, instances: Tensor, *, count: int = INSTANCES) -> Tensor:
    """Features (B, C, H, W) averaged over each instance, at each of its pixels: sums by number, in place of a loop over the
    numbers that occur, so that it exports.

    Args:
        instances: int64 (B, 1, H, W), the number of the instance that a pixel belongs to, in [0, count).
    """
    numbers = instances.expand_as(features).flatten(2)
    flat = features.flatten(2)
    sums = flat.new_zeros(*flat.shape[:2], count).scatter_add(2, numbers, flat)
    pixels = torch.zeros_like(sums).scatter_add(2, numbers, torch.ones_like(flat))
    return (sums / pixels.clamp(min=1)).gather(2, numbers).view(features.shape)


class InstanceEncoder(nn.Module):
    """A photo through halvings and as many doublings, averaged over each instance.

    Takes photos (B, in_channels, H, W) in [-1, 1], H and W multiples of 2 ** halvings, and int64 numbers (B, 1, H, W) of
    instances, below 1024; gives (B, features, H, W) in [-1, 1].
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        features: int = 3,
        nef: int = 16,
        halvings: int = 4,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"in_channels": in_channels, "features": features, "nef": nef}
        self.options |= {"halvings": halvings, "norm": norm}
        make_norm, ends = norm_layer(norm), {"bias": needs_bias(norm), "halvings": halvings}
        down = stem(in_channels, nef, make_norm, **ends)  # type: ignore[arg-type]
        up = head(nef, features, make_norm, **ends)  # type: ignore[arg-type]
        self.model = nn.Sequential(*down, *up)

    def forward(self, photo: Tensor, instances: Tensor) -> Tensor:
        return instance_means(self.model(photo), instances)
