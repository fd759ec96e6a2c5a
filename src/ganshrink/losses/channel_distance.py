"""OMGD's channel distillation (Ren et al. 2021): what each channel of a teacher comes to, whatever the place."""

from collections.abc import Mapping

from torch import Tensor
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
