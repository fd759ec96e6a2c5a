"""Distances as papers compute them: other reals than the targets scored, statistics of others, truncation, KID's subsets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganshrink.data import DataConfig, Subset, TensorInputs, open_dataset
from ganshrink.metrics import MetricsConfig, Pictures, Value, evaluate, give_reals, to_uint8
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance, frechet_distance, load_statistics
from ganshrink.metrics.kernel import KernelDistance, unpaired_kernel_distance
from ganshrink.workflow.protocol import reals_of
from telling import rest_exhaustive


def pictures(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def features(images: Tensor) -> Tensor:
    return to_uint8(images)[:, :, 0, :2].flatten(1).double()


FAKE, TARGET, TRAIN = pictures(20, 0), pictures(20, 1), pictures(31, 2)


def frechet(fake: Tensor, reals: Tensor) -> float:
    x, y = features(fake), features(reals)
    return frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())


def scored(metric: FrechetDistance | KernelDistance, **options: bool) -> Value:
    batches = [{"input": x, "target": y} for x, y in zip(FAKE.split(6), TARGET.split(6), strict=True)]
    return evaluate(nn.Identity(), batches, [metric], **options)[metric.name]


def test_training_images_are_the_reals_of_every_network_scored(corner: FeatureNetwork) -> None:
    given = [{"target": images} for images in TRAIN.split(8)]
    fd = FrechetDistance("fd", corner, split="test", reals="train")
    with pytest.raises(
        ValueError, match=r"fd compares with training images \(metrics.reals\), and there are none here"
    ):
        scored(fd)
    give_reals([fd], [*given, {"input": TRAIN}])
    for _ in range(2):  # a second network is compared with the same
        value = scored(fd)
        assert value.value == pytest.approx(frechet(FAKE, TRAIN), rel=1e-9)
    said = {key: value.protocol[key] for key in ("images", "targets", "reals")}
    assert said == {"images": 20, "targets": 31, "reals": "training images"}

    both = FrechetDistance("fd", corner, split="test", reals="all")
    give_reals([both], [*given, {"target": TARGET}])
    assert scored(both).value == pytest.approx(frechet(FAKE, torch.cat([TRAIN, TARGET])), rel=1e-9)

    kd = KernelDistance("kd", corner, split="test", reals="train")
    give_reals([kd], given)
    expected, _ = unpaired_kernel_distance(features(FAKE), features(TRAIN))
    assert scored(kd).value == pytest.approx(expected, rel=1e-9) and scored(kd).protocol["targets"] == 31
    plain = FrechetDistance("fd", corner, split="test")
    give_reals([plain], given)
    assert scored(plain).value == pytest.approx(frechet(FAKE, TARGET), rel=1e-9)
    assert "reals" not in scored(plain).protocol


def test_statistics_of_others_are_the_reals(corner: FeatureNetwork, tmp_path: Path) -> None:
    y = features(TRAIN)
    np.savez(tmp_path / "zebras.npz", mu=y.mean(0).numpy(), sigma=y.T.cov().numpy())
    fd = FrechetDistance("fid", corner, split="test", statistics=load_statistics(tmp_path / "zebras.npz", 6))
    value = scored(fd)
    assert value.value == pytest.approx(frechet(FAKE, TRAIN), rel=1e-9) and fd.needs == frozenset()
    assert str(value.protocol["reals"]).startswith("zebras.npz, sha256 ") and value.protocol["rank"] == "full"
    with pytest.raises(ValueError, match=r"holds mu \(6,\) and sigma \(6, 6\), not of 2048 features"):
        load_statistics(tmp_path / "zebras.npz", 2048)
    np.savez(tmp_path / "other.npz", mean=np.zeros(6))
    with pytest.raises(ValueError, match="is no .npz file with mu and sigma"):
        load_statistics(tmp_path / "other.npz", 6)
    with pytest.raises(FileNotFoundError, match="metrics.fid_statistics names it"):
        load_statistics(tmp_path / "gone.npz", 6)


def test_truncation_is_that_of_published_scripts_and_leaves_targets(corner: FeatureNetwork) -> None:
    fake = Pictures(FAKE, to_uint8(TARGET).float() / 127.5 - 1, truncate=True)
    assert np.array_equal(fake.saved("fake"), ((FAKE.numpy() + 1) / 2.0 * 255.0).astype(np.uint8))
    assert torch.equal(fake.saved("target"), to_uint8(TARGET))
    fd = FrechetDistance("fd", corner, split="test")
    assert scored(fd, truncate=True).value != scored(fd).value
    assert scored(fd, truncate=True).protocol["quantisation"] == "generated pictures truncated to uint8"


def test_kid_as_usual_is_the_mean_over_subsets_drawn_apart(corner: FeatureNetwork) -> None:
    whole, _ = unpaired_kernel_distance(features(FAKE), features(TARGET))
    kd = KernelDistance("kid", corner, split="test", usual=True, subsets=3, size=20)
    assert scored(kd).value == pytest.approx(whole, rel=1e-9)  # a subset of all of them is all of them
    kd = KernelDistance("kid", corner, split="test", usual=True, subsets=400, size=10)
    value = scored(kd)
    spread = float(value.protocol["standard_deviation"])
    assert 0 < abs(value.value - whole) < 4 * spread / 400**0.5
    assert (value.protocol["subsets"], value.protocol["subset_size"]) == (400, 10)
    assert value.protocol["kernel"] == "(x.y/d + 1)^3, U-statistic"


@pytest.mark.parametrize("given", [[100], [0, 100], [100, 2], 100])
def test_what_is_no_number_of_subsets_and_images_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="kid_subsets"):
        MetricsConfig(kid_subsets=given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", rest_exhaustive(["paired", "unpaired", "labelled"], ["unpaired"].__contains__)
)
def test_reals_can_be_targets_at_the_size_of_their_files(tmp_path: Path, kind: str) -> None:
    rng, sides = np.random.default_rng(0), {"train": (11, 9), "test": (10, 12)}
    for split, (height, width) in sides.items():
        for name, shape in {"a": (3,), "b": (3,), "l": ()}.items():
            (tmp_path / f"{name} {split}").mkdir()
            for number in range(3):
                pixels = rng.integers(0, 256 if shape else 2, (height, width, *shape), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"{name} {split}/{number}.png")
    a, b, labels = (str(tmp_path / f"{name} {{split}}") for name in "abl")
    folders = {"photos": b, "labels": labels, "num_classes": 2} if kind == "labelled" else {"a": a, "b": b}
    train, test = (open_dataset(DataConfig(name=kind, size=8, crop=9, **folders), split) for split in sides)
    parts = Subset(train, [2, 0]), None
    for reals, expected in (
        ("train-stored", [("train", 2), ("train", 0)]),
        ("scored-stored", [("test", 0), ("test", 1)]),
        ("all-stored", [("train", 2), ("train", 0), *(("test", number) for number in range(3))]),
    ):
        config = MetricsConfig(reals=reals, limit=2)
        found = [batch["target"] for batch in reals_of(test, parts, config)]
        for target, (split, number) in zip(found, expected, strict=True):
            height, width = sides[split]
            top, left = (height - 9) // 2, (width - 9) // 2
            stored = np.asarray(Image.open(tmp_path / f"b {split}/{number}.png"))[
                top : top + 9, left : left + 9
            ]
            assert np.array_equal(to_uint8(target)[0].permute(1, 2, 0), stored)
    with pytest.raises(
        ValueError, match="no targets in files of their own size: leave -stored out of metrics.r"
    ):
        list(reals_of(TensorInputs(list(FAKE)), parts, MetricsConfig(reals="scored-stored")))
