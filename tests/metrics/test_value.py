"""Quantisation, batches and the protocol."""

import json

import pytest
import torch

from ganshrink.metrics import Pictures, Value, to_uint8
from ganshrink.metrics.value import Seen


def test_every_level_survives_the_way_through_minus_one_to_one() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)
    assert torch.equal(to_uint8((levels.float() / 255 - 0.5) / 0.5), levels)


def test_rounds_and_clips() -> None:
    at = torch.tensor([100.4, 100.6, -7.0, 300.0]) / 127.5 - 1
    assert to_uint8(at).tolist() == [100, 101, 0, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_picture_is_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_uint8(torch.tensor([0.0, bad]))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\) but the target batch \(1, 3, 4, 4\)"):
        Pictures(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"must be \(N, C, H, W\)"):
        Pictures(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


def test_a_network_for_colour_sees_grey_three_times_and_refuses_other_counts() -> None:
    grey = torch.rand(2, 1, 8, 8) * 2 - 1
    batch = Pictures(grey)
    assert torch.equal(batch.rgb("fake"), batch.saved("fake").repeat(1, 3, 1, 1))
    for channels in (2, 4, 13):
        with pytest.raises(
            ValueError, match=f"takes 1 or 3 channels, these have {channels}: .*psnr and ssim"
        ):
            Pictures(torch.zeros(1, channels, 8, 8)).rgb("fake")


def test_unpaired_batches_may_hold_more_of_one_or_one_alone() -> None:
    images = torch.zeros(3, 3, 8, 8)
    batch = Pictures(images, images[:1], teacher=images, paired=False)
    assert (len(batch.saved("fake")), len(batch.saved("target"))) == (3, 1)
    assert Pictures(None, images, paired=False).fake is None
    with pytest.raises(ValueError, match=r"\(3, 3, 8, 8\) but the target batch \(3, 3, 4, 4\)"):
        Pictures(images, torch.zeros(3, 3, 4, 4), paired=False)
    with pytest.raises(ValueError, match=r"\(3, 3, 8, 8\) but the target batch \(1, 3, 8, 8\)"):
        Pictures(images, images[:1])
    with pytest.raises(ValueError, match="teacher batch"):  # there is one for each fake, whatever the targets
        Pictures(images, images, teacher=images[:1], paired=False)


def test_a_missing_teacher_is_named() -> None:
    batch = Pictures(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="compares with the teacher"):
        batch.saved("teacher")


def test_once_computes_once() -> None:
    batch, calls = Pictures(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), []
    assert [batch.once("key", lambda: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]  # type: ignore[func-returns-value]
    assert len(calls) == 1


def test_the_protocol_counts_images_and_sizes() -> None:
    seen = Seen("val")
    seen.add(torch.zeros(3, 3, 8, 16))
    seen.add(torch.zeros(2, 3, 8, 16))
    expected = {"split": "val", "images": 5, "size": "16x8", "quantisation": "rounded to uint8"}
    assert seen.protocol("psnr") == expected
    seen.add(torch.zeros(1, 3, 8, 8))
    assert seen.protocol("psnr")["size"] == "mixed"
    with pytest.raises(ValueError, match=r"psnr needs at least 7 image\(s\), got 6"):
        seen.protocol("psnr", least=7)


def test_unpaired_targets_are_counted_apart() -> None:
    images = torch.zeros(5, 3, 8, 8)
    seen = Seen("test")
    for fake, target in ((images[:2], images[:1]), (None, images[:3])):
        seen.add_batch(Pictures(fake, target, paired=False), "target")
    assert (seen.protocol("fd")["images"], seen.protocol("fd")["targets"]) == (2, 4)
    with pytest.raises(ValueError, match=r"fd needs at least 3 image\(s\), got 2"):
        seen.protocol("fd", least=3)
    paired = Seen("test")
    paired.add_batch(Pictures(images, images), "target")
    assert paired.protocol("fd")["images"] == 5 and "targets" not in paired.protocol("fd")


def test_value_is_strict_json() -> None:
    value = Value(1.5, "lower", {"images": 3, "split": "test"})
    assert json.loads(json.dumps(value.to_json(), allow_nan=False)) == {
        "value": 1.5,
        "better": "lower",
        "protocol": {"images": 3, "split": "test"},
    }
