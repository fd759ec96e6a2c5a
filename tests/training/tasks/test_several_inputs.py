"""A generator of several inputs: both networks get all of them, a conditional discriminator those that are images."""

import pytest
import torch
from torch import Tensor, nn

from ganshrink.training.tasks import Pix2Pix, Pix2PixConfig


class Masked(nn.Module):
    """An image, a mask of its size, a smaller map and a style vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.style = nn.Conv2d(4, 3, 1), nn.Linear(5, 3)

    def forward(self, image: Tensor, mask: Tensor, small: Tensor, style: Tensor) -> Tensor:
        moved = self.style(style)[:, :, None, None] + small.mean()
        return self.conv(torch.cat([image, mask], 1)) + moved


def batch() -> dict[str, object]:
    inputs = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16), torch.rand(2, 3, 8, 8), torch.rand(2, 5)
    return {"input": inputs, "target": torch.rand(2, 3, 16, 16)}


def test_a_conditional_discriminator_sees_the_images_among_them():
    torch.manual_seed(0)
    task = Pix2Pix(Pix2PixConfig(ndf=4, d_layers=1))
    teacher, given = Masked(), batch()
    task = task.as_student_task(teacher, target="teacher")
    nets = task.nets(Masked(), 4, 3)
    context = task.forward(nets)(given, 0, 0)
    image, mask, small, style = given["input"]
    torch.testing.assert_close(context.fake, nets["G"](image, mask, small, style))
    torch.testing.assert_close(context.taught, teacher(image, mask, small, style))
    shown = torch.cat([image, mask, given["target"]], 1)
    torch.testing.assert_close(context.scores(context.real), nets["D"](shown))


def test_a_discriminator_that_would_see_no_image_is_refused():
    with pytest.raises(ValueError, match="no input is an image of the target's size: use task"):
        Pix2Pix().nets(Masked(), 0, 3)
    assert list(Pix2Pix(Pix2PixConfig(lambda_gan=0)).nets(Masked(), 0, 3)) == ["G"]
