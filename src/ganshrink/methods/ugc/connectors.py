"""OMGD's channel distillation (section 3.3 of Ren et al. 2021), which UGC leaves out: the student's channels, connected to
those of the wide teacher."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganshrink.losses import channel_distance
from ganshrink.methods.distill import widest
from ganshrink.pruning import Channels
from ganshrink.training import Taps, default_taps


class Connectors(nn.Module):
    """A 1x1 convolution, batch norm and ReLU for each layer, from the student's width to the teacher's; they learn with the
    student and are thrown away.

    Args:
        widths: per layer, the student's channels and the teacher's.
    """

    def __init__(self, widths: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.paths = tuple(widths)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())
            for inside, outside in widths.values()
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {path: layer(features[path]) for path, layer in zip(self.paths, self.layers, strict=True)}

    def distance(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """The channel distance of the student's features to the teacher's, by layer."""
        return channel_distance(self(student), {path: teacher[path].detach() for path in self.paths})


def connect(
    original: nn.Module, student: nn.Module, teacher: nn.Module, example: Sequence[Tensor], channels: Channels,
    paths: Sequence[str] | None,
) -> Connectors:  # fmt: skip
    """Connectors at `paths`, or at four layers of the original's widest kind: those of OMGD on a ResNet.

    Raises:
        ValueError: for a path that a network does not have.
    """
    chosen = tuple(paths or default_taps(original, example, widest(channels), least=2))
    widths = [_widths(network, chosen, example) for network in (student, teacher)]
    return Connectors({path: (widths[0][path], widths[1][path]) for path in chosen})


def _widths(network: nn.Module, paths: Sequence[str], example: Sequence[Tensor]) -> dict[str, int]:
    with Taps(network, paths) as taps, torch.no_grad():
        network.eval()(*example)
        return {path: features.shape[1] for path, features in taps.take().items()}
