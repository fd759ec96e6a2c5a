"""Two domains that do not belong together: who comes when, and how often."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganshrink.data import (
    Batches,
    DataConfig,
    Images,
    Subset,
    UnpairedImages,
    check,
    input_spec,
    open_dataset,
)
from ganshrink.data.images import offered_by
from ganshrink.data.passes import all_batches


def paint(path: Path, red: int, green: int) -> None:
    """A picture whose colour names it; its left edge is white, so that mirroring shows."""
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = red, green
    pixels[:, :4, 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """5 images of A (red 10, 20, ...) and 3 of B (green 10, 20, 30) to train on; 2 and 4 to test on."""
    for split, counts in (("train", (5, 3)), ("test", (2, 4))):
        for i in range(counts[0]):
            paint(tmp_path / f"{split}A" / f"horse {i}.png", 10 * (i + 1), 0)
        for i in range(counts[1]):
            paint(tmp_path / f"{split}B" / f"zebra {i}.png", 0, 10 * (i + 1))
    return tmp_path


def config(folder: Path, **settings) -> DataConfig:
    return DataConfig(**{"name": "unpaired", "root": str(folder), "size": 16, "load_size": 20, **settings})


def colour(image: Tensor) -> tuple[int, int]:
    """(red, green) of an image (3, H, W)."""
    red, green = ((image[:2].amin(dim=(1, 2)) + 1) * 127.5).round().int().tolist()
    return red, green


def drawn(images: Images, epochs: int, **options) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    batches = Batches(images, batch_size=1, **options)
    steps = (batches.at(step) for step in range(batches.steps(epochs)))
    return [(colour(batch["input"][0]), colour(batch["target"][0])) for batch in steps]


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_an_epoch_is_the_larger_domain_with_the_other_drawn_at_random(domains, direction):
    images = open_dataset(config(domains, direction=direction))
    assert isinstance(images, Images) and len(images) == 5
    assert (images.in_channels, images.out_channels, images.size) == (3, 3, (16, 16))
    pairs = drawn(images, 12)
    if direction == "BtoA":
        pairs = [(target, source) for source, target in pairs]
    for epoch in range(12):
        of_epoch = pairs[5 * epoch : 5 * epoch + 5]
        assert sorted(a for a, _ in of_epoch) == [(red, 0) for red in (10, 20, 30, 40, 50)]
    assert {b for _, b in pairs} == {(0, green) for green in (10, 20, 30)}
    assert len(set(pairs)) > 12  # of 15: an image of the larger domain meets now this one, now that one


def test_the_other_domain_is_drawn_too_where_both_are_as_large(domains):
    paint(domains / "trainB" / "zebra 3.png", 0, 40)
    paint(domains / "trainB" / "zebra 4.png", 0, 50)
    pairs = drawn(open_dataset(config(domains)), 8)
    assert sorted(a for a, _ in pairs[:5]) == [(red, 0) for red in (10, 20, 30, 40, 50)]
    assert len({b for a, b in pairs if a == (10, 0)}) > 1


def test_the_draw_is_a_function_of_seed_epoch_and_index(domains):
    images = open_dataset(config(domains))
    assert drawn(images, 3) == drawn(images, 3) != drawn(images, 3, seed=1)
    sample, again = (images.sample(2, np.random.default_rng(7)) for _ in range(2))
    assert all(torch.equal(sample[kind], again[kind]) for kind in ("input", "target"))


def test_each_side_is_mirrored_on_its_own(domains):
    images = open_dataset(config(domains, load_size=16))
    seen = set()
    for seed in range(24):
        sample = images.sample(0, np.random.default_rng(seed))
        seen.add(tuple(bool(sample[kind][2, 0, 0] < 0) for kind in ("input", "target")))
    assert seen == {(a, b) for a in (False, True) for b in (False, True)}


@pytest.mark.parametrize(("split", "counts"), [("train", (5, 3)), ("test", (2, 4))])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_evaluation_gives_each_image_of_both_once(domains, split, counts, size):
    images = open_dataset(config(domains), split)
    batches = list(all_batches(images, size))
    assert not any(batch["paired"] for batch in batches)
    for kind, count, channel in (("input", counts[0], 0), ("target", counts[1], 1)):
        shown = [colour(image)[channel] for batch in batches for image in batch.get(kind, ())]
        assert shown == [10 * (i + 1) for i in range(count)]
    assert images.num_inputs == counts[0]


def test_names_are_those_of_the_inputs_and_then_of_what_is_left(domains):
    images = open_dataset(config(domains), "test")
    assert [images.sample(i, None)["name"] for i in range(4)] == ["horse 0", "horse 1", "zebra 2", "zebra 3"]


def test_there_are_targets_but_no_pairs(domains):
    images = open_dataset(config(domains))
    assert offered_by(images) == {"target", "pictures"}
    held = Subset(images, [0])
    assert offered_by(held) == {"target", "pictures"} and held.num_inputs == 1


def test_a_part_knows_which_of_its_samples_hold_inputs(domains):
    images = open_dataset(config(domains), "test")  # 2 inputs and 4 targets
    rest, held = Subset(images, [1, 2]), Subset(images, [0, 3])
    for part in (rest, held):
        present = ["input" in part.sample(i, None) for i in range(len(part))]
        assert present == [i < part.num_inputs for i in range(len(part))]
    assert (rest.num_inputs, held.num_inputs) == (1, 1)


def test_both_directions_swap_and_both_is_as_there(domains):
    there, back, both = (open_dataset(config(domains, direction=d)) for d in ("AtoB", "BtoA", "both"))
    for i in range(3):
        assert torch.equal(there.sample(i, None)["input"], back.sample(i, None)["target"])
        assert torch.equal(there.sample(i, None)["target"], back.sample(i, None)["input"])
        assert torch.equal(there.sample(i, None)["input"], both.sample(i, None)["input"])
    assert (there.num_inputs, back.num_inputs) == (5, 3)


def test_two_folders_of_any_name_are_the_same_data(domains):
    folders = {"root": None, "a": str(domains / "{split}A"), "b": str(domains / "{split}B")}
    one, other = open_dataset(config(domains)), open_dataset(config(domains, **folders))
    assert drawn(one, 2) == drawn(other, 2)


def test_the_fingerprint_follows_settings_direction_and_contents(domains):
    def fingerprint(split="train", **settings):
        return UnpairedImages(config(domains, **settings), split).fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    others = [
        fingerprint("test"),
        fingerprint(flip=False),
        fingerprint(direction="BtoA"),
        fingerprint(size=8),
    ]
    assert len({before, *others}) == 5
    paint(domains / "trainB" / "zebra 1.png", 0, 99)
    assert fingerprint() != before


def test_missing_and_empty_folders_are_named(domains):
    with pytest.raises(
        FileNotFoundError, match=r"valA does not exist .*data\.root = .*testA does: set metrics.split"
    ) as error:
        open_dataset(config(domains), "val")
    assert "\n" not in str(error.value)
    assert f"(data.root = '{domains}'" in str(error.value)  # as it was written, without the split
    with pytest.raises(FileNotFoundError, match=r"zebras does not exist \(data\.b = "):
        open_dataset(config(domains, root=None, a=str(domains / "trainA"), b=str(domains / "zebras")))
    for path in (domains / "testA").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"1 problem in the test images: no images in .*testA \(looked for"):
        open_dataset(config(domains), "test")


def test_what_is_broken_on_either_side_is_named(domains):
    (domains / "trainA" / "horse 1.png").write_bytes(b"no picture")
    (domains / "trainB" / "zebra 0.png").write_bytes(b"")
    paint(domains / "trainB" / "zebra 2.jpg", 0, 0)
    problems = check(UnpairedImages(config(domains), "train"))
    assert len(problems) == 3
    for name in ("horse 1.png", "zebra 0.png", "zebra 2.jpg"):
        assert sum(name in line for line in problems) == 1
    assert "same name" in problems[0]


def test_what_its_generators_eat_and_how_it_looks(domains):
    images = open_dataset(config(domains))
    assert input_spec(images) == input_spec(config(domains)) and input_spec(images).channels == 3
    sample = images.sample(1, None)["input"]
    assert images.preview(sample).shape == (16, 16, 3) and images.preview(sample)[0, 15].tolist() == [
        20,
        0,
        0,
    ]
