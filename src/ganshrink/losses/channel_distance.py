"""OMGD's channel distillation (Ren et al. 2021): what each channel of a teacher comes to, whatever the place."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import mse_loss


def channel_distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """The sum over layers of mean squared differences of channels' means over the image, as in the released code; the
    paper's figure shows a channel attention, of which this is the pooling.

    Args:
        student: features (B, C, H, W) by layer, already of the teacher's width (see `Connectors`).
        teacher: features of the same shapes, detached by the caller; their sizes H and W may differ.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: if layers or shapes differ.
    """
    if not student or student.keys() != teacher.keys():
        raise ValueError(
            f"the student has layers {', '.join(student)}, the teacher {', '.join(teacher)}: compare the same"
        )
    total = None
    for name, features in student.items():
        if features.shape[:2] != teacher[name].shape[:2]:
            raise ValueError(
                f"the features of {name} are {tuple(features.shape)} and {tuple(teacher[name].shape)}: connect them first"
            )
        distance = mse_loss(features.float().mean((2, 3)), teacher[name].float().mean((2, 3)))
        total = distance if total is None else total + distance
    assert total is not None
    return total


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
