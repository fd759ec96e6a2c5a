"""Sliced Wasserstein distance: a shift, a naive transcription for sets of two sizes, reals of training images."""

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import Pictures, give_reals
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.sliced import SlicedWasserstein, sliced_wasserstein


def features(n: int, seed: int) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def test_of_a_set_and_its_shift_it_is_the_length_of_the_shift_along_a_direction() -> None:
    x, shift = features(40, 0), torch.tensor([3.0, 0, 0, 4.0, 0, 0])
    found = sliced_wasserstein(x, x[torch.randperm(40)] + shift, directions=4000)
    assert found == pytest.approx(5 / 6**0.5, rel=0.03)  # E (shift . u)^2 = |shift|^2 / d
    assert sliced_wasserstein(x, x.flip(0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (6, 9), (5, 8)])
def test_it_equals_the_naive_sorting_of_as_many_copies(n: int, m: int) -> None:
    x, y = features(n, 0).double(), features(m, 1).double() + 0.3
    along = torch.randn(50, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    squares = []
    for direction in along / along.norm(dim=1, keepdim=True):
        on_x, on_y = (x @ direction).repeat(m).sort().values, (y @ direction).repeat(n).sort().values
        squares.append((on_x - on_y).square().mean())
    expected = torch.stack(squares).mean().sqrt().item()
    assert sliced_wasserstein(x, y, directions=50, seed=3) == pytest.approx(expected, rel=1e-9)
    assert sliced_wasserstein(y, x, directions=50, seed=3) == pytest.approx(expected, rel=1e-9)


def test_streaming_and_other_reals(corner: FeatureNetwork) -> None:
    fake, target = (
        torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (0, 1)
    )
    one, other = (
        SlicedWasserstein("swd", corner, split="test"),
        SlicedWasserstein("swd", corner, split="test"),
    )
    one.update(Pictures(fake, target))
    for a, b in zip(fake.split(4), target.split(4), strict=True):
        other.update(Pictures(a, b))
    assert one.compute() == other.compute() and one.compute().value > 0
    train = SlicedWasserstein("swd", corner, split="test", reals="train")
    give_reals([train], [{"target": target}])
    train.update(Pictures(fake, fake))
    assert train.compute().value == one.compute().value
    assert (train.compute().protocol["targets"], train.compute().protocol["reals"]) == (9, "training images")
