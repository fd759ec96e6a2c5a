"""What the teacher makes of inputs that come again: the same as it makes, made once, and never another teacher's."""

import pytest
import torch
from torch import nn

from ganshrink.training import Taps
from ganshrink.training.tasks.teacher_cache import TeacherCache, look


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 3, 3, padding=1), 0

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        self.seen += len(x)
        return self.conv(x) + (0 if shift is None else shift[:, None, None, None])


def test_an_image_is_made_once_and_is_the_teachers():
    teacher, batch = Counting().eval(), torch.randn(4, 3, 8, 8)
    cache = TeacherCache(teacher)
    (first, _), (again, _) = cache.of(batch), cache.of(batch.flip(0))
    assert teacher.seen == 4 and not first.requires_grad
    assert torch.equal(first, again.flip(0))
    assert torch.equal(first, torch.cat([teacher(image[None]) for image in batch]))


def test_what_was_kept_does_not_depend_on_what_else_was_in_the_batch():
    """So a run that was stopped and resumed learns from the same bits."""
    teacher, batch = Counting().eval(), torch.randn(4, 3, 8, 8)
    assert torch.equal(TeacherCache(teacher).of(batch)[0][2:], TeacherCache(teacher).of(batch[2:])[0])


@pytest.mark.parametrize("number", [0.5, 1])
def test_every_input_tells_images_apart(number):
    teacher, photo = Counting().eval(), torch.randn(1, 3, 8, 8)
    cache = TeacherCache(teacher)
    plain, shifted = (cache.of((photo, torch.tensor([value])))[0] for value in (0.0, number))
    assert torch.allclose(shifted - plain, torch.full_like(plain, number), atol=1e-6)


def test_a_teacher_that_changes_or_trains_is_asked_again():
    teacher, photo = Counting().eval(), torch.randn(1, 3, 8, 8)
    cache = TeacherCache(teacher)
    before, _ = cache.of(photo)
    optimizer = torch.optim.SGD(teacher.parameters(), lr=1.0)
    teacher.conv.bias.grad = torch.ones(3)
    optimizer.step()
    assert torch.allclose(cache.of(photo)[0], before - 1, atol=1e-6)
    teacher.train()
    seen = teacher.seen
    cache.of(photo), cache.of(photo)
    assert teacher.seen == seen + 2


def test_no_more_is_kept_than_there_is_room_for():
    teacher, batch = Counting().eval(), torch.randn(3, 3, 8, 8)
    cache = TeacherCache(teacher, room=2 * batch[0].nbytes)
    cache.of(batch), cache.of(batch)
    assert teacher.seen == 4


def test_features_are_kept_beside_the_image():
    teacher, batch = Counting().eval(), torch.randn(4, 3, 8, 8)
    cache = TeacherCache(teacher)
    with Taps(teacher, ["conv"]) as taps:
        first, features = cache.of(batch, taps)
        again, kept = cache.of(batch.flip(0), taps)
        whole = look(teacher, batch, taps)
    assert teacher.seen == 4 + 4
    assert torch.equal(first, again.flip(0)) and torch.equal(features["conv"], kept["conv"].flip(0))
    assert torch.allclose(first, whole[0], atol=1e-6)
    assert torch.allclose(features["conv"], whole[1]["conv"], atol=1e-6)
    assert cache.of(batch)[1] == {}  # asked without taps


def test_features_take_room():
    teacher, batch = Counting().eval(), torch.randn(3, 3, 8, 8)
    cache = TeacherCache(teacher, room=3 * batch[0].nbytes)  # an image and its features are twice an image
    with Taps(teacher, ["conv"]) as taps:
        cache.of(batch, taps), cache.of(batch, taps)
    assert teacher.seen == 3 + 2


def test_features_that_are_not_one_for_each_image_are_those_of_the_batch():
    class Tokens(nn.Module):
        """Transformers that put positions first."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.tokens(x.flatten(2).permute(2, 0, 1)).permute(1, 2, 0).unflatten(2, x.shape[2:])

    teacher, batch = Tokens().eval(), torch.randn(4, 3, 8, 8)
    with Taps(teacher, ["tokens"]) as taps:
        image, features = TeacherCache(teacher).of(batch, taps)
    assert torch.equal(image, batch) and features["tokens"].shape == (64, 4, 3)


def test_what_depends_on_its_batch_is_made_of_the_batch():
    teacher, batch = (
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        torch.randn(4, 3, 8, 8),
    )
    teacher.eval()
    assert torch.equal(TeacherCache(teacher).of(batch)[0], teacher(batch))


def test_a_layer_that_draws_is_asked_each_time():
    teacher, photo = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)).eval(), torch.randn(1, 3, 8, 8)
    teacher[1].train()
    cache = TeacherCache(teacher)
    assert not torch.equal(cache.of(photo)[0], cache.of(photo)[0])


def test_another_parameter_in_place_of_one_is_another_teacher():
    teacher, photo = nn.Conv2d(3, 3, 1).eval(), torch.randn(1, 3, 8, 8)
    cache = TeacherCache(teacher)
    cache.of(photo)
    for _ in range(20):  # memory that was freed is likely taken again
        teacher.weight = nn.Parameter(torch.randn(3, 3, 1, 1))
        assert torch.equal(cache.of(photo)[0], teacher(photo))


def test_what_was_made_under_autocast_is_for_autocast():
    teacher, photo = nn.Conv2d(3, 3, 1).eval(), torch.randn(1, 3, 8, 8)
    cache = TeacherCache(teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert cache.of(photo)[0].dtype == torch.bfloat16
    assert torch.equal(cache.of(photo)[0], teacher(photo))
