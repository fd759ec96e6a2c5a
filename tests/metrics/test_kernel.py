"""Kernel distance: a naive double loop, torchmetrics, what it is unbiased for, the bounded reservoir."""

import itertools

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import Pictures
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.kernel import (
    ROWS,
    KernelDistance,
    Reservoir,
    kernel_distance,
    of_subsets,
    unpaired_kernel_distance,
)


def features(n: int, *, seed: int, dim: int = 5) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, *, seed: int, brightness: float = 1.0) -> Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * (1 + brightness) - 1


def kernel(a: Tensor, b: Tensor) -> float:
    return (sum(p * q for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a) + 1) ** 3


def naive(x: Tensor, y: Tensor) -> float:
    """Gretton et al. 2012, equation 4, term by term."""
    n = len(x)
    total = 0.0
    for i, j in itertools.permutations(range(n), 2):
        total += kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i])
    return total / (n * (n - 1))


def naive_unpaired(x: Tensor, y: Tensor) -> float:
    """Gretton et al. 2012, equation 3, term by term, for n and m samples."""
    n, m = len(x), len(y)
    within_x = sum(kernel(a, b) for a, b in itertools.permutations(x, 2)) / (n * (n - 1))
    within_y = sum(kernel(a, b) for a, b in itertools.permutations(y, 2)) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_equals_the_naive_double_loop() -> None:
    x, y = features(9, seed=0), features(9, seed=1) + 0.5
    assert kernel_distance(x, y)[0] == pytest.approx(naive(x, y), rel=1e-10)


def test_standard_error_is_the_jackknife() -> None:
    x, y = features(8, seed=2), features(8, seed=3)
    rest = [[j for j in range(8) if j != i] for i in range(8)]
    without = torch.tensor([naive(x[r], y[r]) for r in rest], dtype=torch.float64)
    expected = (7 / 8 * ((without - without.mean()) ** 2).sum()).sqrt().item()
    assert kernel_distance(x, y)[1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(9, 6), (3, 8), (7, 7)])
def test_the_unpaired_estimate_equals_the_naive_double_loop(n: int, m: int) -> None:
    x, y = features(n, seed=0), features(m, seed=1) + 0.5
    value, error = unpaired_kernel_distance(x, y)
    assert value == pytest.approx(naive_unpaired(x, y), rel=1e-10)
    assert unpaired_kernel_distance(y, x) == pytest.approx((value, error), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (3, 6)])
def test_its_standard_error_leaves_out_each_of_both_sides(n: int, m: int) -> None:
    """The jackknife of two independent samples: the variances that each side brings in add up."""
    x, y = features(n, seed=2), features(m, seed=3)

    def without(index: int, count: int) -> list[int]:
        return [j for j in range(count) if j != index]

    parts = [
        [naive_unpaired(x[without(i, n)], y) for i in range(n)],
        [naive_unpaired(x, y[without(i, m)]) for i in range(m)],
    ]
    variance = 0.0
    for part in map(torch.tensor, parts):
        variance += (len(part) - 1) / len(part) * (part.double() - part.double().mean()).square().sum().item()
    assert unpaired_kernel_distance(x, y)[1] == pytest.approx(variance**0.5, rel=1e-5)


def test_the_unpaired_estimate_is_torchmetrics_s() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = features(12, seed=4).double(), features(12, seed=5).double()
    assert unpaired_kernel_distance(x, y)[0] == pytest.approx(poly_mmd(x, y).item(), rel=1e-10)


def test_the_unpaired_estimate_is_unbiased_for_sets_of_unequal_size() -> None:
    values = [
        unpaired_kernel_distance(features(4, seed=2 * s, dim=2), features(7, seed=2 * s + 1, dim=2))[0]
        for s in range(400)
    ]
    sample = torch.tensor(values)
    assert abs(sample.mean()) < 4 * sample.std() / len(values) ** 0.5


def test_differs_from_torchmetrics_by_the_matching_pairs_alone() -> None:
    from torchmetrics.image.kid import poly_mmd

    n, x, y = 12, features(12, seed=4).double(), features(12, seed=5).double()
    cross = (x @ y.T / 5 + 1) ** 3
    theirs = poly_mmd(x, y) + 2 * cross.sum() / n**2
    ours = kernel_distance(x, y)[0] + 2 * (cross.sum() - cross.trace()) / (n * (n - 1))
    assert ours == pytest.approx(theirs.item(), rel=1e-10)


def test_identical_sets_are_at_zero_and_order_within_pairs_does_not_matter() -> None:
    x, y = features(20, seed=6), features(20, seed=7)
    value, error = kernel_distance(x, x)
    assert value == pytest.approx(0.0, abs=1e-12)
    assert error == pytest.approx(0.0, abs=1e-12)
    assert kernel_distance(x, y)[0] == pytest.approx(kernel_distance(y, x)[0], rel=1e-10)


def test_unbiased_for_independent_and_for_paired_samples() -> None:
    """Both sides follow one distribution, so the expectation is 0, also where the two of a pair are alike."""
    for alike in (0.0, 0.9):
        values = []
        for seed in range(400):
            x, noise = features(6, seed=2 * seed, dim=2), features(6, seed=2 * seed + 1, dim=2)
            values.append(kernel_distance(x, alike * x + (1 - alike**2) ** 0.5 * noise)[0])
        sample = torch.tensor(values)
        assert abs(sample.mean()) < 4 * sample.std() / len(values) ** 0.5


def test_the_reservoir_is_bounded_and_depends_on_seed_and_order_alone() -> None:
    x = features(50, seed=8)
    kept = []
    for size, seed in ((50, 0), (7, 0), (7, 1)):
        reservoir = Reservoir(5, capacity=10, seed=seed)
        for part in x.split(size):
            reservoir.add(part)
            assert reservoir.kept.shape == (10, 5)
        kept.append(reservoir.sample())
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])
    assert all((x == row).all(1).sum() == 1 for row in kept[0])


def test_two_reservoirs_side_by_side_keep_pairs() -> None:
    numbers = torch.arange(50.0)[:, None]
    one, other = (Reservoir(1, capacity=10, seed=4) for _ in range(2))
    for part in numbers.split(7):
        one.add(part)
        other.add(-part)
    assert torch.equal(one.sample(), -other.sample())
    few = Reservoir(1, capacity=10, seed=4)
    few.add(numbers[:3])
    assert torch.equal(few.sample(), numbers[:3])


def test_every_image_is_equally_likely_to_stay() -> None:
    counts = torch.zeros(20)
    for seed in range(400):
        reservoir = Reservoir(1, capacity=5, seed=seed)
        reservoir.add(torch.arange(20.0)[:, None])
        counts[reservoir.sample().flatten().long()] += 1
    assert counts.sum() == 2000
    assert counts.min() > 100 - 4.5 * 75**0.5  # each is binomial(400, 1/4): mean 100, variance 75
    assert counts.max() < 100 + 4.5 * 75**0.5


def metric(network: FeatureNetwork, *, size: int = 1000, capacity: int = 10_000) -> KernelDistance:
    return KernelDistance(
        "kd", network, split="test", seed=3, subsets=20, exact=size, size=size, capacity=capacity
    )


def test_few_images_give_the_exact_estimate_with_its_error(corner: FeatureNetwork) -> None:
    batch = Pictures(pictures(30, seed=0), pictures(30, seed=1))
    kd = metric(corner)
    kd.update(batch)
    value = kd.compute()
    x, y = (batch.saved(kind)[:, :, 0, :2].flatten(1).float() for kind in ("fake", "target"))
    expected, error = kernel_distance(x, y)
    assert value.value == pytest.approx(expected, rel=1e-12)
    assert value.better == "lower"
    assert value.protocol["standard_error"] == pytest.approx(error, rel=1e-12)
    assert (value.protocol["images"], value.protocol["subset_size"]) == (30, 30)
    assert value.protocol["seed"] == 3


def test_many_images_give_subsets_whose_mean_is_near_the_exact_estimate(corner: FeatureNetwork) -> None:
    fake, target = pictures(60, seed=0, brightness=0.2), pictures(60, seed=1)
    exact, sampled = metric(corner), metric(corner, size=25)
    results = []
    for size in (60, 13):
        sampled.reset()
        for x, y in zip(fake.split(size), target.split(size), strict=True):
            sampled.update(Pictures(x, y))
        results.append(sampled.compute())
    exact.update(Pictures(fake, target))
    assert results[0] == results[1]  # streaming equals all at once, random subsets included
    spread = float(results[0].protocol["standard_deviation"])
    assert 0 < abs(results[0].value - exact.compute().value) < 4 * spread / 20**0.5
    assert (results[0].protocol["subsets"], results[0].protocol["subset_size"]) == (20, 25)


def test_subsets_together_are_what_each_is_alone() -> None:
    x, y = features(ROWS + 70, seed=0), features(2 * ROWS + 30, seed=1) + 0.2
    of_x, of_y = (torch.stack([torch.randperm(n)[:40] for _ in range(7)]) for n in (len(x), len(y)))
    apart = [unpaired_kernel_distance(x[a], y[b])[0] for a, b in zip(of_x, of_y, strict=True)]
    assert of_subsets(x, y, of_x, of_y, paired=False).tolist() == pytest.approx(apart, rel=1e-11)
    pairs = [kernel_distance(x[places], y[places])[0] for places in of_x]
    assert of_subsets(x, y, of_x, of_x, paired=True).tolist() == pytest.approx(pairs, rel=1e-11)


def test_the_protocol_says_how_many_of_the_images_were_sampled(corner: FeatureNetwork) -> None:
    kd = metric(corner, capacity=8)
    kd.update(Pictures(pictures(30, seed=0), pictures(30, seed=1)))
    protocol = kd.compute().protocol
    assert (protocol["images"], protocol["sampled_images"], protocol["subset_size"]) == (30, 8, 8)


def unpaired(fake: Tensor | None, target: Tensor | None) -> Pictures:
    return Pictures(fake, target, paired=False)


def vectors(images: Tensor) -> Tensor:
    """What `corner` sees of images in [-1, 1]."""
    return Pictures(images).saved("fake")[:, :, 0, :2].flatten(1).float()


def test_unpaired_pictures_are_counted_and_compared_apart(corner: FeatureNetwork) -> None:
    fake, target = pictures(11, seed=0), pictures(18, seed=1)
    kd, batches = metric(corner), [(0, 5), (5, 11), (11, 18)]
    for start, stop in batches:
        kd.update(unpaired(fake[start:stop] if start < 11 else None, target[start:stop]))
    value = kd.compute()
    expected, error = unpaired_kernel_distance(vectors(fake), vectors(target))
    assert value.value == pytest.approx(expected, rel=1e-12)
    assert value.protocol["standard_error"] == pytest.approx(error, rel=1e-12)
    assert (value.protocol["images"], value.protocol["targets"]) == (11, 18)
    assert value.protocol["kernel"] == "(x.y/d + 1)^3, U-statistic"
    kd.reset()
    kd.update(Pictures(fake, target[:11]))
    assert kd.compute().protocol["kernel"] == "(x.y/d + 1)^3, U-statistic without matching pairs"
    assert "targets" not in kd.compute().protocol


def test_subsets_of_unpaired_pictures_are_drawn_apart(corner: FeatureNetwork) -> None:
    """A set against itself: pairs would show in every draw of equal places, whose cross terms are then too large."""
    x = pictures(60, seed=0)
    sampled, exact = metric(corner, size=25), metric(corner)
    for kd in (sampled, exact):
        kd.update(unpaired(x, x))
    spread = float(sampled.compute().protocol["standard_deviation"])
    difference = sampled.compute().value - exact.compute().value
    # Of n pictures against themselves the estimate is off by -2/n of what a picture has in common with itself alone.
    assert exact.compute().value < 0 and abs(difference) < 4 * spread / 20**0.5
    assert sampled.compute() == sampled.compute()


def test_the_smaller_side_bounds_the_subsets(corner: FeatureNetwork) -> None:
    kd = metric(corner, size=20)
    kd.update(unpaired(pictures(8, seed=0), pictures(30, seed=1)))
    assert (kd.compute().protocol["subsets"], kd.compute().protocol["subset_size"]) == (20, 8)


def test_against_the_teacher_pictures_are_pairs_on_any_data(corner: FeatureNetwork) -> None:
    fake, target, teacher = (pictures(n, seed=n) for n in (9, 12, 9))
    kd = KernelDistance("kd_teacher", corner, split="test", against="teacher")
    assert kd.needs == {"teacher"}
    kd.update(Pictures(fake, target, teacher=teacher, paired=False))
    kd.update(unpaired(None, target))
    value = kd.compute()
    assert value.value == pytest.approx(kernel_distance(vectors(fake), vectors(teacher))[0], rel=1e-12)
    assert (value.protocol["against"], value.protocol["images"]) == ("the teacher's output", 9)
    assert "targets" not in value.protocol


def test_too_few_on_one_side_are_too_few(corner: FeatureNetwork) -> None:
    kd = metric(corner)
    kd.update(unpaired(pictures(9, seed=0), pictures(2, seed=1)))
    with pytest.raises(ValueError, match=r"kd needs at least 3 image\(s\), got 2"):
        kd.compute()


def test_two_images_are_too_few(corner: FeatureNetwork) -> None:
    kd = metric(corner)
    kd.update(Pictures(pictures(2, seed=0), pictures(2, seed=1)))
    with pytest.raises(ValueError, match=r"kd needs at least 3 image\(s\), got 2"):
        kd.compute()
