"""Values over drawn pictures: of all of them what `compute` says, of some what a metric of these says; intervals."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import Pictures, Value
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.iou import MeanIoU, Segmenter
from ganshrink.metrics.kernel import KernelDistance, cubic_kernel, distance_of
from ganshrink.metrics.pixels import similarity
from ganshrink.metrics.resampling import drawn, interval, mean_of
from ganshrink.metrics.value import parts_of, with_interval

PICTURES, CLASSES = 9, 4


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(*, paired: bool = True) -> Pictures:
    fake, target, teacher = (random(PICTURES, 3, 12, 12, seed=seed) for seed in range(3))
    labels = torch.randint(0, CLASSES, (PICTURES, 12, 12), generator=torch.Generator().manual_seed(3))
    labels[:4] = labels[:4].clamp_max(1)  # class 2 occurs in some pictures alone
    return Pictures(fake, target, labels, teacher, paired=paired)


def of_places(pictures: Pictures, places: list[int]) -> Pictures:
    kinds = ("fake", "target", "labels", "teacher")
    return replace(pictures, **{kind: getattr(pictures, kind)[places] for kind in kinds}, _memo={})


def metrics(corner: FeatureNetwork) -> list:
    seen = Segmenter("red", lambda p, size: p[:, 0].long() // 86, CLASSES, resize="none", sha256="0")
    return [
        similarity("psnr", against="target", split="test"),
        similarity("ssim", against="teacher", split="test"),
        MeanIoU(seen, split="test"),
        KernelDistance("kd", corner, split="test"),
        KernelDistance("kd_teacher", corner, split="test", against="teacher"),
    ]


def test_of_all_pictures_once_it_is_the_metric_s_own_value(corner: FeatureNetwork) -> None:
    for metric in metrics(corner):
        for places in ([0, 1, 2, 3], [4, 5, 6, 7, 8]):
            metric.update(of_places(batch(), places))
        found = metric.of_parts(parts_of(metric), torch.ones(2, PICTURES, dtype=torch.int64))
        assert found.tolist() == pytest.approx([metric.compute().value] * 2, rel=1e-9), metric.name


def test_of_drawn_pictures_it_is_the_value_of_these(corner: FeatureNetwork) -> None:
    """The kernel distance alone tells copies of a picture from other pictures: it is asked for subsets."""
    counts = torch.tensor(
        [[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 2, 0, 3, 1, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1, 1]]
    )
    for metric in metrics(corner):
        metric.update(batch())
        found = metric.of_parts(parts_of(metric), counts)
        for row, value in zip(counts.tolist(), found.tolist(), strict=True):
            places = [place for place, count in enumerate(row) for _ in range(count)]
            if len(set(places)) == len(places) or not metric.name.startswith("kd"):
                metric.reset()
                metric.update(of_places(batch(), places))
                assert value == pytest.approx(metric.compute().value, rel=1e-6), metric.name


def test_a_picture_is_not_compared_with_its_copy() -> None:
    x, y = random(5, 4, seed=0), random(5, 4, seed=1)
    count = [2, 0, 1, 3, 1]
    total = norm = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                a, b, c, d = (
                    cubic_kernel(p[None], q[None]).item()
                    for p, q in ((x[i], x[j]), (y[i], y[j]), (x[i], y[j]), (x[j], y[i]))
                )
                total += count[i] * count[j] * (a + b - c - d)
                norm += count[i] * count[j]
    found = distance_of({"fake": x, "target": y}, torch.tensor([count]))
    assert found.item() == pytest.approx(total / norm, rel=1e-9)


def test_targets_that_belong_to_no_picture_are_not_drawn(corner: FeatureNetwork) -> None:
    kd = KernelDistance("kd", corner, split="test")
    kd.update(batch(paired=False))
    kd.update(Pictures(None, random(5, 3, 12, 12, seed=7), paired=False))
    parts = parts_of(kd)
    assert {name: len(part) for name, part in parts.items()} == {
        "fake": PICTURES,
        "fixed_target": PICTURES + 5,
    }
    ones = torch.ones(1, PICTURES)
    assert kd.of_parts(parts, ones).item() == pytest.approx(kd.compute().value, rel=1e-9)


def test_many_pictures_leave_the_kernel_distance_without_parts(corner: FeatureNetwork) -> None:
    kd = KernelDistance("kd", corner, split="test", exact=PICTURES - 1, size=4)
    kd.update(batch())
    assert with_interval(kd.compute(), kd, parts_of(kd)).interval is None


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    found = interval(mean_of, {"values": values})
    assert found is not None and found[0] < values.mean() < found[1]
    assert (found[1] - found[0]) / 2 == pytest.approx(1.96 * values.std().item() / 20, rel=0.1)
    assert interval(mean_of, {"values": values[:1]}) is None
    assert torch.equal(drawn(7).sum(dim=1), torch.full((1000,), 7)) and torch.equal(drawn(7), drawn(7))


def test_the_interval_of_a_kernel_distance_covers_the_true_one_and_is_not_shifted() -> None:
    """Both sets follow one distribution: the distance is 0, and 95 % of intervals hold it, about as many miss it on either
    side. With copies compared they would lie above it."""
    ends = []
    for seed in range(60):
        x, noise = random(30, 3, seed=2 * seed), random(30, 3, seed=2 * seed + 1)
        ends.append(interval(distance_of, {"fake": x, "target": noise}))
    low, high = torch.tensor(ends, dtype=torch.float64).T
    assert ((low <= 0) & (high >= 0)).double().mean() > 0.9


def test_parts_of_different_lengths_are_refused() -> None:
    class Odd:
        name, of_parts = "odd", staticmethod(mean_of)

        def parts(self) -> dict[str, Tensor]:
            return {"values": torch.zeros(3), "more": torch.zeros(4)}

    with pytest.raises(ValueError, match="odd: its parts are of different numbers of pictures"):
        parts_of(Odd())  # type: ignore[arg-type]
    assert Value(1.0, "lower", {}).to_json() == {"value": 1.0, "better": "lower", "protocol": {}}
