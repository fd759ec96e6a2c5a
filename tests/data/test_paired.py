import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import DataConfig, PairedImages, check, open_dataset, to_uint8


def coordinates(size=64, blue=0):
    """A picture whose red is the column and whose green is the row."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., 0] = np.arange(size) * 255 // size
    pixels[..., 1] = np.arange(size)[:, None] * 255 // size
    pixels[..., 2] = blue
    return pixels


@pytest.fixture
def aligned(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(3):
            both = np.concatenate([coordinates(blue=0), coordinates(blue=255)], axis=1)
            Image.fromarray(both).save(tmp_path / split / f"{i} ä ☂.png")
    return tmp_path


@pytest.fixture
def folders(tmp_path):
    for side, blue in (("A", 0), ("B", 255)):
        (tmp_path / f"train{side}" / "town").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(coordinates(blue=blue)).save(tmp_path / f"train{side}" / "town" / f"{i}.png")
    return tmp_path


def side_by_side(folder, **settings):
    return DataConfig(**{"name": "paired", "root": str(folder), "size": 32, **settings})


def two_folders(folder, **settings):
    sides = {"a": str(folder / "{split}A"), "b": str(folder / "{split}B")}
    return DataConfig(**{"name": "paired", **sides, "size": 32, **settings})


def test_halves_go_to_input_and_target_by_direction(aligned, folders):
    for config in (side_by_side(aligned), two_folders(folders)):
        there = open_dataset(config, "train").sample(1, None)
        assert (there["input"][2] == -1).all() and (there["target"][2] == 1).all()
        back = open_dataset(config.model_copy(update={"direction": "BtoA"}), "train").sample(1, None)
        assert torch.equal(back["input"], there["target"])


def test_crop_and_mirror_are_the_same_for_both_halves(aligned):
    dataset = open_dataset(side_by_side(aligned, load_size=64), "train")
    seen = set()
    for seed in range(24):
        sample = dataset.sample(0, np.random.default_rng(seed))
        a, b = to_uint8(sample["input"]), to_uint8(sample["target"])
        assert np.array_equal(a[..., :2], b[..., :2])
        columns = a[0, :, 0].astype(int) * 64 / 255
        mirrored = bool(columns[0] > columns[-1])
        assert np.allclose(np.abs(np.diff(columns)), 1, atol=0.3)  # a cut, not a resize
        seen.add((mirrored, round(columns.min()), round(int(a[:, 0, 1].min()) * 64 / 255)))
    assert {mirrored for mirrored, _, _ in seen} == {True, False}
    assert len(seen) > 12


def test_evaluation_is_the_plain_bicubic_resize(aligned):
    sample = open_dataset(side_by_side(aligned), "test").sample(0, None)
    expected = Image.fromarray(coordinates()).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(to_uint8(sample["input"]), np.asarray(expected))


def test_names_tell_samples_apart_and_fit_in_file_names(aligned, folders):
    assert open_dataset(side_by_side(aligned), "train").sample(2, None)["name"] == "2 ä ☂"
    assert open_dataset(two_folders(folders), "train").sample(2, None)["name"] == "town__2"


def test_the_fingerprint_follows_the_contents(folders):
    before = PairedImages(two_folders(folders), "train").fingerprint()
    assert PairedImages(two_folders(folders), "train").fingerprint() == before
    assert PairedImages(two_folders(folders, flip=False), "train").fingerprint() != before
    Image.fromarray(coordinates(blue=7)).save(folders / "trainA" / "town" / "0.png")
    assert PairedImages(two_folders(folders), "train").fingerprint() != before


def test_a_missing_partner_is_named_on_either_side(folders):
    (folders / "trainA" / "town" / "0.png").unlink()
    (folders / "trainB" / "town" / "2.png").unlink()
    problems = check(PairedImages(two_folders(folders), "train"))
    assert len(problems) == 2
    assert "2.png has no partner in" in problems[0] and "trainB" in problems[0]
    assert "0.png has no partner in" in problems[1] and "trainA" in problems[1]


def test_two_files_of_one_name_are_a_problem(folders):
    Image.fromarray(coordinates()).save(folders / "trainA" / "town" / "0.jpg")
    assert any("same name" in line for line in check(PairedImages(two_folders(folders), "train")))


def test_unequal_sizes_are_named_with_both(folders):
    Image.fromarray(coordinates(40)).save(folders / "trainB" / "town" / "1.png")
    (problem,) = check(PairedImages(two_folders(folders), "train"))
    assert "64 x 64" in problem and "40 x 40" in problem and "trainB" in problem


def test_an_odd_width_has_no_halves(aligned):
    Image.new("RGB", (33, 16)).save(aligned / "train" / "odd.png")
    with pytest.raises(ValueError, match="1 problem in the train images: .*odd.png is 33 pixels wide"):
        open_dataset(side_by_side(aligned), "train")


def test_an_empty_folder_is_named(aligned, folders):
    (aligned / "val").mkdir()
    (aligned / "val" / "notes.txt").write_text("no image")
    (aligned / "val" / ".hidden.png").touch()
    with pytest.raises(ValueError, match="no images in .*val"):
        open_dataset(side_by_side(aligned), "val")
    for path in (folders / "trainB" / "town").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="1 problem in the train images: no images in .*trainB"):
        open_dataset(two_folders(folders), "train")


def test_a_missing_split_is_named_beside_the_setting_as_written(aligned):
    with pytest.raises(FileNotFoundError, match=r"val does not exist \(data\.root = ") as error:
        open_dataset(side_by_side(aligned), "val")
    assert f"(data.root = '{aligned}')" in str(error.value)


def test_two_folders_where_one_gives_nothing_say_why_once(folders):
    (folders / "trainB" / "more").symlink_to(folders / "trainA")
    for path in (folders / "trainB" / "town").iterdir():
        path.unlink()
    (problem,) = check(PairedImages(two_folders(folders), "train"))
    assert "trainB/more is a link to a folder" in problem


def test_many_broken_images_are_counted_and_the_first_named(aligned):
    for i in range(9):
        (aligned / "train" / f"z{i}.jpg").write_bytes(b"")
    with pytest.raises(ValueError) as error:
        open_dataset(side_by_side(aligned), "train")
    message = str(error.value)
    assert message.startswith("9 problems") and "z0.jpg" in message and message.endswith("and 4 more")
    assert "\n" not in message
