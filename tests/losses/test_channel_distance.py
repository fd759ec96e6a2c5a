import pytest
import torch
from torch import Tensor

from ganshrink.losses import channel_distance


def features(seed: int, **sizes: tuple[int, ...]) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = sizes or {"down": (2, 3, 4, 6), "blocks.1": (2, 5, 2, 3)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def naive(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> float:
    """OMGD's, number by number: a channel is its mean over the places of an image."""
    total = 0.0
    for name, ours in student.items():
        squares = []
        for mine, theirs in zip(ours.double(), teacher[name].double(), strict=True):
            for one, other in zip(mine, theirs, strict=True):
                squares.append((sum(one.flatten().tolist()) / one.numel() - float(other.mean())) ** 2)
        total += sum(squares) / len(squares)
    return total


def test_it_equals_the_naive_transcription():
    student, teacher = features(0), features(1)
    distance = channel_distance(student, teacher)
    assert distance.shape == () and distance.dtype == torch.float32
    assert distance.item() == pytest.approx(naive(student, teacher), rel=1e-5)
    assert channel_distance(student, student).item() == 0


def test_layers_add_up_and_each_is_a_mean_over_images_and_channels():
    student, teacher = features(0), features(1)
    alone = [channel_distance({name: student[name]}, {name: teacher[name]}) for name in student]
    torch.testing.assert_close(channel_distance(student, teacher), sum(alone))
    doubled = [{name: torch.cat([x, x]) for name, x in each.items()} for each in (student, teacher)]
    torch.testing.assert_close(channel_distance(*doubled), channel_distance(student, teacher))


def test_places_do_not_matter_and_sizes_may_differ():
    student, teacher = features(0), features(1)
    shuffled = {name: x.flip(2, 3).roll(1, 3) for name, x in teacher.items()}
    finer = {name: x.repeat_interleave(2, 2).repeat_interleave(3, 3) for name, x in teacher.items()}
    wanted = channel_distance(student, teacher)
    for other in (shuffled, finer):
        torch.testing.assert_close(channel_distance(student, other), wanted)


def test_its_gradient_is_the_same_at_every_place():
    student, teacher = features(0), features(1)
    leaf = student["down"].requires_grad_()
    channel_distance(student, teacher).backward()
    apart = (leaf.detach() - teacher["down"]).mean((2, 3), keepdim=True)
    expected = 2 * apart / (apart.numel() * leaf[0, 0].numel())
    torch.testing.assert_close(leaf.grad, expected.expand_as(leaf))


def test_half_precision_features_are_compared_in_float32():
    student, teacher = ({name: x.bfloat16() for name, x in features(seed).items()} for seed in (0, 1))
    distance = channel_distance(student, teacher)
    assert distance.dtype == torch.float32
    assert distance.item() == pytest.approx(naive(student, teacher), rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        (features(0), features(1, down=(2, 3, 4, 6)), "has layers down, blocks.1, the teacher down: compare"),
        ({}, {}, "compare the same"),
        (
            features(0, down=(2, 3, 4, 6)),
            features(1, down=(2, 1, 4, 6)),  # which would broadcast
            r"of down are \(2, 3, 4, 6\) and \(2, 1, 4, 6\): connect them first",
        ),
        (
            features(0, down=(2, 3, 4, 6)),
            features(1, down=(1, 3, 4, 6)),
            r"\(2, 3, 4, 6\) and \(1, 3, 4, 6\): connect",
        ),
    ],
    ids=["layers", "none", "channels", "images"],
)
def test_what_does_not_belong_together_is_refused(student, teacher, words):
    with pytest.raises(ValueError, match=words) as error:
        channel_distance(student, teacher)
    assert "\n" not in str(error.value)
