"""Few labels: which of the training images keep their targets, and where the others are found."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from ganshrink.data import DataConfig, Images, check, input_spec, open_dataset, open_unlabelled
from ganshrink.data.views import draw_view, view_image, view_labels
from telling import rest_exhaustive

SIZE = (16, 24)


def drawn(**settings):
    return DataConfig(**{"size": 16, "counts": {"train": 40, "val": 3, "test": 5}, **settings})


@pytest.fixture
def maps(tmp_path):
    """10 pairs A and B of noise and a test pair; in more/train 4 further pictures of A, one in a folder of its own."""
    rng = np.random.default_rng(0)
    names = {"trainA": range(10), "trainB": range(10), "testA": range(1), "testB": range(1)}
    names["more/train"] = ["7", "8", "9", "town/9"]
    for folder, stems in names.items():
        for stem in stems:
            path = tmp_path / "maps" / folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return tmp_path / "maps"


def paired(folder, **settings):
    sides = {side.lower(): str(folder / f"{{split}}{side}") for side in "AB"}
    return DataConfig(**{"name": "paired", **sides, "size": SIZE, **settings})


@pytest.fixture
def city(tmp_path):
    """6 label maps with their photos, and in more 2 further label maps; ids 0..3, 4 and 255 that no class has."""
    rng = np.random.default_rng(0)
    for folder, count in (("train", 6), ("trainannot", 6), ("more", 2)):
        (tmp_path / "city" / folder).mkdir(parents=True)
        for i in range(count):
            pixels = rng.choice([0, 1, 2, 3, 4, 255], (40, 60)).astype(np.uint8)
            photo = np.repeat(pixels[..., None], 3, -1)
            Image.fromarray(photo if folder == "train" else pixels).save(
                tmp_path / "city" / folder / f"{i}.png"
            )
    return tmp_path / "city"


def labelled(folder, **settings):
    paths = {"photos": str(folder / "{split}"), "labels": str(folder / "{split}annot")}
    return DataConfig(**{"name": "labelled", **paths, "num_classes": 4, "void": 3, "size": SIZE, **settings})


def names(images):
    return [images.sample(index, None)["name"] for index in range(len(images))]


@pytest.mark.slow
@pytest.mark.parametrize("fraction", rest_exhaustive(["10%", "25%", "50%", "97.5%"], "97.5%".__eq__))
def test_labelled_and_unlabelled_images_are_disjoint_and_all(fraction):
    config = drawn(label_fraction=fraction)
    with_targets, without = open_dataset(config), open_unlabelled(config)
    assert len(with_targets) == round(40 * config.label_fraction) > 0
    assert names(with_targets) == sorted(names(with_targets)) and names(without) == sorted(names(without))
    assert sorted(names(with_targets) + names(without)) == names(open_dataset(drawn()))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_smaller_shares_are_inside_larger_ones_and_seeds_choose_others():
    shares = [set(names(open_dataset(drawn(label_fraction=share)))) for share in ("10%", "25%", "50%", 1)]
    assert all(small < large for small, large in itertools.pairwise(shares))
    other = set(names(open_dataset(drawn(label_fraction="50%", label_seed=1))))
    assert len(other) == 20 and other != shares[2]


@pytest.mark.slow
def test_inputs_without_labels_hold_no_target_and_are_those_of_the_pairs(city):
    for config in (
        drawn(label_fraction="50%", load_size=24, counts={"train": 8, "val": 1, "test": 1}),
        labelled(city, label_fraction="50%"),
    ):
        whole = open_dataset(config.model_copy(update={"label_fraction": 1.0}))
        rest = open_unlabelled(config)
        assert isinstance(rest, Images) and check(rest) == []
        assert (rest.in_channels, rest.size, input_spec(rest)) == (
            whole.in_channels,
            whole.size,
            input_spec(whole),
        )
        for seed, name in enumerate(names(rest)):
            for draw in (None, seed):
                rng, same = (None if draw is None else np.random.default_rng(draw) for _ in "ab")
                found = rest.sample(seed, rng)
                expected = whole.sample(names(whole).index(name), same)
                assert expected.keys() - found.keys() == {"target"}
                assert all(torch.equal(found[key], expected[key]) for key in found if key != "name")


def test_only_training_images_lose_their_targets(maps):
    config = drawn(label_fraction="10%")
    assert (len(open_dataset(config, "val")), len(open_dataset(config, "test"))) == (3, 5)
    assert "target" in open_dataset(config, "val").sample(2, None)
    few = paired(maps, label_fraction="50%")
    assert open_dataset(few, "test").fingerprint() == open_dataset(paired(maps), "test").fingerprint()


def test_all_labels_leave_fingerprints_as_they_were(maps):
    """Runs of earlier versions go on: their stages are stamped with these."""
    assert (
        open_dataset(DataConfig(size=16, counts={"train": 400})).fingerprint()
        == "1c87dc6aac8a8fd223f0656e55a0cfc0"
    )
    before = open_dataset(paired(maps)).fingerprint()
    for settings in (
        {"label_fraction": 1},
        {"label_fraction": "100%", "label_seed": 3},
        {"label_fraction": "97%"},  # of ten images all
        {"unlabelled": str(maps / "more/{split}")},
    ):
        assert open_dataset(paired(maps, **settings)).fingerprint() == before


def test_fingerprints_follow_share_seed_and_folder(maps):
    config = {"label_fraction": "50%"}
    changes = ({}, {"label_fraction": "60%"}, {"label_seed": 1}, {"flip": False})
    prints = [open_dataset(paired(maps, **config | change)).fingerprint() for change in changes]
    prints += [open_unlabelled(paired(maps, **config | change)).fingerprint() for change in changes]
    more = str(maps / "more/{split}")
    for settings in ({}, config, {"flip": False}):
        prints.append(open_unlabelled(paired(maps, unlabelled=more, **settings)).fingerprint())
    before = prints[-3]
    assert len(set(prints)) == len(prints) == 11
    assert open_unlabelled(paired(maps, unlabelled=str(maps / "more/train"))).fingerprint() == before
    Image.new("RGB", (60, 40)).save(maps / "more/train/8.png")
    assert open_unlabelled(paired(maps, unlabelled=more)).fingerprint() != before


def test_a_folder_of_more_pictures_is_seen_as_the_inputs_of_pairs_are(maps):
    images = open_unlabelled(paired(maps, unlabelled=str(maps / "more/{split}"), load_size=[20, 30]))
    assert isinstance(images, Images) and names(images) == ["7", "8", "9", "town__9"]
    path = maps / "more/train/8.png"
    seen = set()
    for seed in range(6):
        view = draw_view(SIZE, (20, 30), flip=True, rng=np.random.default_rng(seed))
        sample = images.sample(1, np.random.default_rng(seed))
        assert set(sample) == {"input", "name"}
        assert np.array_equal(images.preview(sample["input"]), view_image(Image.open(path), view))
        seen.add(view)
    assert len(seen) == 6 and {view.mirrored for view in seen} == {True, False}
    assert images.sample(1, None)["input"].shape == (3, *SIZE)


def test_a_folder_of_more_label_maps_has_the_classes_of_the_labelled_ones(city):
    settings = {"unlabelled": str(city / "more"), "load_size": [20, 30], "label_size": [40, 60]}
    images = open_unlabelled(labelled(city, **settings))
    ids = np.asarray(Image.open(city / "more/1.png")).astype(np.int32)
    for seed in range(4):
        view = draw_view(SIZE, (20, 30), flip=True, rng=np.random.default_rng(seed))
        sample = images.sample(1, np.random.default_rng(seed))
        expected = np.minimum(view_labels(ids, view), 3)  # 3 is void, where 4 and 255 go
        assert set(sample) == {"input", "labels", "name"} and np.array_equal(sample["labels"], expected)
        assert torch.equal(sample["input"].argmax(0), sample["labels"])
        assert torch.equal(sample["input"].sum(0), torch.ones(SIZE))
    assert images.preview(sample["input"]).shape == (*SIZE, 3)
    assert input_spec(images) == input_spec(labelled(city))
    assert np.array_equal(images.sample(1, None)["labels"], np.minimum(ids, 3))  # in full, to be scored


def test_the_rest_of_the_pairs_and_the_folder_are_one_set(maps):
    more = str(maps / "more/{split}")
    rest, folder = (
        open_unlabelled(paired(maps, **settings))
        for settings in ({"label_fraction": "75%"}, {"unlabelled": more})
    )
    both = open_unlabelled(paired(maps, label_fraction="75%", unlabelled=more))
    assert len(both) == len(rest) + len(folder) == 2 + 4
    assert names(both) == names(rest) + names(folder)
    for index, (part, place) in enumerate([(rest, 0), (rest, 1), *((folder, i) for i in range(4))]):
        found, expected = (
            each.sample(at, np.random.default_rng(3)) for each, at in ((both, index), (part, place))
        )
        assert torch.equal(found["input"], expected["input"])
    with pytest.raises(IndexError):
        both.sample(6, None)


def test_the_inputs_are_those_of_the_direction(maps):
    there, back = (
        open_unlabelled(paired(maps, label_fraction="50%", direction=way)).sample(0, None)
        for way in ("AtoB", "BtoA")
    )
    whole = open_dataset(paired(maps))
    pair = whole.sample(names(whole).index(there["name"]), None)
    assert torch.equal(there["input"], pair["input"]) and torch.equal(back["input"], pair["target"])


def test_where_all_have_labels_there_are_no_others(maps):
    assert open_unlabelled(paired(maps)) is None and open_unlabelled(drawn(label_seed=2)) is None
    assert open_unlabelled(paired(maps, label_fraction="97%")) is None


@pytest.mark.parametrize("opening", [open_dataset, open_unlabelled])
def test_a_share_that_leaves_no_label_is_refused_with_the_least_that_leaves_one(opening):
    with pytest.raises(ValueError) as error:
        opening(drawn(label_fraction="1%"))
    assert str(error.value) == (
        "data.label_fraction = 1% leaves none of the 40 training pairs its target: give at least 1.25%"
    )
    assert len(open_dataset(drawn(label_fraction="1.25%"))) == 1


def test_what_is_wrong_with_the_folder_is_told_as_of_any_other(maps, city):
    with pytest.raises(FileNotFoundError, match="data.unlabelled = .*nowhere.* GANSHRINK_DATA"):
        open_unlabelled(paired(maps, unlabelled=str(maps / "nowhere")))
    (maps / "empty").mkdir()
    with pytest.raises(ValueError, match="1 problem in the unlabelled images: no images in .*empty"):
        open_unlabelled(paired(maps, unlabelled=str(maps / "empty")))
    (maps / "more/train/9.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 problem in the unlabelled images: cannot use image .*9\.png"):
        open_unlabelled(paired(maps, unlabelled=str(maps / "more/train")))
    with pytest.raises(ValueError, match=r"class id \d+ is outside 0\.\.3: raise num_classes"):
        open_unlabelled(labelled(city, void=None, unlabelled=str(city / "more")))


@pytest.mark.parametrize(
    "share", [0, -0.1, 1.01, "25", "0%", "101%", "many", "%", "nan", "nan%", True, None, [0.1]]
)
def test_what_is_no_share_is_refused(share):
    with pytest.raises(
        ValidationError, match='a share is written as "25%", or as a number above 0 and at most 1'
    ):
        DataConfig(label_fraction=share)


@pytest.mark.parametrize(
    ("given", "share"), [("25%", 0.25), ("33.3%", 0.333), ("100%", 1), (" 10 % ", 0.1), ("0.5", 0.5), (1, 1)]
)
def test_a_share_is_a_percentage_or_a_number(given, share):
    assert DataConfig(label_fraction=given).label_fraction == share


@pytest.mark.parametrize("name", ["unpaired", "photos"])
@pytest.mark.parametrize(
    ("key", "value"), [("label_fraction", 0.5), ("label_seed", 1), ("unlabelled", "more")]
)
def test_few_labels_are_for_pairs(name, key, value):
    settings = {"name": name, "root" if name == "unpaired" else "photos": "x", key: value}
    with pytest.raises(ValidationError, match=f"{key} does not apply to name = '{name}'"):
        DataConfig(**settings)


def test_drawn_data_have_no_folder_of_more():
    with pytest.raises(ValidationError, match="unlabelled does not apply to name = 'facades-synthetic'"):
        drawn(unlabelled="more")
