"""The teacher's images of inputs that come again: the same as it makes, made once, and never those of another teacher."""

import pytest
import torch
from torch import nn

from ganshrink.training.tasks.taught_images import TaughtImages


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 3, 3, padding=1), 0

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        self.seen += len(x)
        return self.conv(x) + (0 if shift is None else shift[:, None, None, None])


def test_an_image_is_made_once_and_is_the_teachers():
    teacher, batch = Counting().eval(), torch.randn(4, 3, 8, 8)
    memory = TaughtImages(teacher)
    first, again = memory.of(batch), memory.of(batch.flip(0))
    assert teacher.seen == 4 and not first.requires_grad
    assert torch.equal(first, again.flip(0))
    assert torch.equal(first, torch.cat([teacher(image[None]) for image in batch]))


def test_what_was_kept_does_not_depend_on_what_else_was_in_the_batch():
    """So a run that was stopped and resumed learns from the same bits."""
    teacher, batch = Counting().eval(), torch.randn(4, 3, 8, 8)
    assert torch.equal(TaughtImages(teacher).of(batch)[2:], TaughtImages(teacher).of(batch[2:]))


@pytest.mark.parametrize("number", [0.5, 1])
def test_every_input_tells_images_apart(number):
    teacher, photo = Counting().eval(), torch.randn(1, 3, 8, 8)
    memory = TaughtImages(teacher)
    plain, shifted = (memory.of((photo, torch.tensor([value]))) for value in (0.0, number))
    assert torch.allclose(shifted - plain, torch.full_like(plain, number), atol=1e-6)


def test_a_teacher_that_changes_or_trains_is_asked_again():
    teacher, photo = Counting().eval(), torch.randn(1, 3, 8, 8)
    memory = TaughtImages(teacher)
    before = memory.of(photo)
    optimizer = torch.optim.SGD(teacher.parameters(), lr=1.0)
    teacher.conv.bias.grad = torch.ones(3)
    optimizer.step()
    assert torch.allclose(memory.of(photo), before - 1, atol=1e-6)
    teacher.train()
    seen = teacher.seen
    memory.of(photo), memory.of(photo)
    assert teacher.seen == seen + 2


def test_no_more_is_kept_than_there_is_room_for():
    teacher, batch = Counting().eval(), torch.randn(3, 3, 8, 8)
    memory = TaughtImages(teacher, room=2 * batch[0].nbytes)
    memory.of(batch), memory.of(batch)
    assert teacher.seen == 4
