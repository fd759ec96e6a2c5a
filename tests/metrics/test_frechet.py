"""Frechet distance: closed forms, a naive matrix square root, torchmetrics, streaming."""

import math

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import Pictures
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance, Moments, frechet_distance


def spd(dim: int, *, seed: int, rank: int | None = None) -> Tensor:
    """A random covariance (dim, dim) of the given rank."""
    factor = torch.randn(dim, rank or dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T / dim


def rotation(dim: int, *, seed: int) -> Tensor:
    square = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(square)[0]


def pictures(n: int, *, seed: int) -> Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_one_dimension() -> None:
    # (m1 - m2)^2 + (s1 - s2)^2
    one, nine = torch.tensor([[1.0]]), torch.tensor([[9.0]])
    assert frechet_distance(torch.tensor([2.0]), one, torch.tensor([5.0]), nine) == pytest.approx(
        13.0, abs=1e-12
    )


def test_anisotropic_gaussians_with_common_axes() -> None:
    axes = rotation(5, seed=0)
    s1, s2 = (
        torch.tensor([3.0, 1.0, 0.5, 0.0, 2.0]).double(),
        torch.tensor([1.0, 4.0, 0.5, 2.0, 0.0]).double(),
    )
    m1, m2 = torch.arange(5.0), torch.tensor([1.0, 1.0, 0.0, 3.0, 4.0])
    expected = ((s1 - s2) ** 2).sum() + ((m1 - m2) ** 2).sum()
    got = frechet_distance(m1, axes * s1**2 @ axes.T, m2, axes * s2**2 @ axes.T)
    assert got == pytest.approx(expected.item(), rel=1e-7)


@pytest.mark.parametrize("rank", [None, 3])
def test_equals_the_naive_square_root_of_the_product(rank: int | None) -> None:
    c1, c2, m1, m2 = spd(8, seed=1), spd(8, seed=2, rank=rank), torch.zeros(8), torch.ones(8)
    # The eigenvalues of C1 C2, a matrix that is not symmetric, give the trace of its square root.
    eigenvalues = torch.linalg.eigvals(c1 @ c2)
    naive = 8 + c1.trace() + c2.trace() - 2 * eigenvalues.sqrt().real.sum()
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(naive.item(), rel=1e-6)


def test_symmetric_zero_on_itself_and_shifted_by_a_constant() -> None:
    c1, c2, zero = spd(6, seed=3), spd(6, seed=4), torch.zeros(6)
    assert frechet_distance(zero, c1, zero, c1) == pytest.approx(0.0, abs=1e-12)
    forward, back = frechet_distance(zero, c1, zero + 1, c2), frechet_distance(zero + 1, c2, zero, c1)
    assert forward == pytest.approx(back, rel=1e-10)
    assert forward == pytest.approx(frechet_distance(zero, c1, zero, c2) + 6, rel=1e-10)


def test_moments_equal_those_of_the_whole_set_and_do_not_grow() -> None:
    features = torch.randn(100, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 50
    moments = Moments(7)
    for chunk in features.split([1, 30, 64, 5]):
        moments.add(chunk)
        assert moments.sum.shape == (7,)
        assert moments.outer.shape == (7, 7)
    torch.testing.assert_close(moments.mean(), features.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(moments.covariance(), features.T.cov(), rtol=1e-9, atol=1e-11)


def test_sampled_gaussians_come_near_their_known_distance() -> None:
    # N(0, I) against N(2 e_1, 4 I) in 6 dimensions: 4 + 6 (2 - 1)^2 = 10.
    draw = torch.Generator().manual_seed(0)
    one, two = Moments(6), Moments(6)
    for _ in range(20):
        one.add(torch.randn(2000, 6, generator=draw))
        two.add(2 * torch.randn(2000, 6, generator=draw) + torch.tensor([2.0, 0, 0, 0, 0, 0]))
    assert frechet_distance(one.mean(), one.covariance(), two.mean(), two.covariance()) == pytest.approx(
        10, rel=0.02
    )


def test_agrees_with_torchmetrics(corner: FeatureNetwork) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    module = corner.module
    module.num_features = corner.dim  # type: ignore[assignment]
    theirs = FrechetInceptionDistance(feature=module)
    ours = FrechetDistance("fd", corner, split="test")
    batch = Pictures(pictures(50, seed=0), pictures(50, seed=1))
    theirs.update(batch.saved("target"), real=True)
    theirs.update(batch.saved("fake"), real=False)
    ours.update(batch)
    assert ours.compute().value == pytest.approx(theirs.compute().item(), rel=1e-5)


def test_streaming_equals_all_at_once(corner: FeatureNetwork) -> None:
    fake, target = pictures(40, seed=0), pictures(40, seed=1)
    metric = FrechetDistance("fd", corner, split="test")
    values = []
    for size in (40, 7):
        metric.reset()
        for x, y in zip(fake.split(size), target.split(size), strict=True):
            metric.update(Pictures(x, y))
        values.append(metric.compute().value)
    assert values[0] > 1
    assert math.isclose(values[0], values[1], rel_tol=1e-10)


def test_protocol_and_rank(corner: FeatureNetwork) -> None:
    metric = FrechetDistance("fd", corner, split="val")
    metric.update(Pictures(pictures(6, seed=0), pictures(6, seed=1)))
    protocol = metric.compute().protocol
    assert protocol["rank"] == "rank-deficient"  # 6 images of 6 dimensions: the covariance has rank 5
    metric.update(Pictures(pictures(1, seed=2), pictures(1, seed=3)))
    value = metric.compute()
    assert value.better == "lower"
    assert value.protocol == {
        "split": "val",
        "images": 7,
        "size": "4x4",
        "quantisation": "rounded to uint8",
        "network": "corner",
        "weights_sha256": "0" * 12,
        "resize": "none",
        "dimension": 6,
        "rank": "full",
        "against": "the target",
    }


def test_unpaired_sides_may_differ_in_number(corner: FeatureNetwork) -> None:
    fake, target = pictures(5, seed=0), pictures(9, seed=1)
    metric = FrechetDistance("fd", corner, split="val")
    for fakes, targets in ((fake, target[:4]), (None, target[4:])):
        metric.update(Pictures(fakes, targets, paired=False))
    value = metric.compute()
    x, y = (Pictures(images).saved("fake")[:, :, 0, :2].flatten(1).double() for images in (fake, target))
    assert value.value == pytest.approx(
        frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()), rel=1e-8
    )
    assert (value.protocol["images"], value.protocol["targets"]) == (5, 9)
    assert value.protocol["rank"] == "rank-deficient"  # the fewer of the two decide


def test_the_distance_to_the_teacher_is_to_nothing_else(corner: FeatureNetwork) -> None:
    fake, target = pictures(8, seed=0), pictures(8, seed=1)
    metric = FrechetDistance("fd_teacher", corner, split="val", against="teacher")
    metric.update(Pictures(fake, target, teacher=fake.clone()))
    value = metric.compute()
    assert metric.needs == {"teacher"} and value.protocol["against"] == "the teacher's output"
    assert value.value == pytest.approx(0.0, abs=1e-9)


def test_one_image_has_no_covariance(corner: FeatureNetwork) -> None:
    metric = FrechetDistance("fd", corner, split="val")
    metric.update(Pictures(pictures(1, seed=0), pictures(1, seed=1)))
    with pytest.raises(ValueError, match=r"fd needs at least 2 image\(s\), got 1"):
        metric.compute()
