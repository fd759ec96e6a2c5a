"""Data sets as they ship: Cityscapes' three kinds of label map, faces in one folder or in many."""

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import DataConfig, input_spec, open_dataset, prepare
from ganshrink.data.cityscapes import edges, train_ids
from ganshrink.data.images import files_of
from telling import rest_exhaustive

# cityscapesScripts, helpers/labels.py: the id of each class that is evaluated, by its train id.
EVALUATED = dict(enumerate([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]))


def test_ids_become_train_ids_and_all_others_void():
    found = dict(enumerate(train_ids(np.arange(256)).tolist()))
    assert {found[identity]: identity for identity in EVALUATED.values()} == EVALUATED
    assert {found[other] for other in set(range(256)) - set(EVALUATED.values())} == {19}
    assert train_ids(np.array([-1])).tolist() == [19]  # number plates


def naive_edges(instances):
    height, width = instances.shape
    found = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width]
            found[y, x] = any(instances[y, x] != instances[place] for place in inside)
    return found


@pytest.fixture
def city(tmp_path):
    """Two streets for training and validation; of the test images the labels say nothing."""
    rng = np.random.default_rng(0)
    for split, town in (("train", "ulm"), ("val", "lindau"), ("test", "bonn")):
        for side in ("leftImg8bit", "gtFine"):
            (tmp_path / side / split / town).mkdir(parents=True)
        for number in range(2):
            name = f"{split}/{town}/{town}_00000{number}_000019"
            instances = np.repeat(rng.choice([7, 23, 26000, 26001, 24002, 4], (2, 4)), 8, 0).repeat(8, 1)
            ids = np.where(instances < 1000, instances, instances // 1000) * (split != "test")
            colours = np.stack([ids * 7, 255 - ids, ids, 0 * ids + 255], -1).astype(np.uint8)
            pictures = {
                "leftImg8bit": rng.integers(0, 256, (16, 32, 3), np.uint8),
                "gtFine_labelIds": ids.astype(np.uint8),
                "gtFine_instanceIds": instances.astype(np.uint16),
                "gtFine_color": colours,
            }
            for kind, pixels in pictures.items():
                folder = "gtFine" if kind.startswith("gtFine") else kind
                Image.fromarray(pixels).save(tmp_path / folder / f"{name}_{kind}.png")
    return tmp_path


def settings(city, kind, **more):
    labels = f"{city}/gtFine/{{split}}/*_gtFine_{kind}.png"
    photos, more = f"{city}/leftImg8bit/{{split}}", {"size": (16, 32), "label_ids": "cityscapes", **more}
    return DataConfig(name="labelled", photos=photos, labels=labels, **more)


@pytest.mark.parametrize("classes", [None, 35])
@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
def test_inputs_are_train_ids_or_all_ids_and_scores_are_on_train_ids(city, kind, classes):
    config = settings(city, kind, num_classes=classes, edges=kind == "instanceIds")
    images = open_dataset(config, "test")
    assert len(images) == 2 and {path.parent.name for files in files_of(images) for path in files} == {
        "lindau"
    }
    sample = images.sample(0, None)
    label = city / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"
    ids, wanted = np.asarray(Image.open(label)), train_ids(np.asarray(Image.open(label)))
    assert np.array_equal(sample["labels"], wanted) and sample["labels"].dtype == torch.int64
    planes = sample["input"][: classes or 20]
    assert np.array_equal(planes.argmax(0), ids if classes else wanted) and (planes.sum(0) == 1).all()
    assert images.in_channels == len(sample["input"]) == (classes or 20) + config.edges
    path = city / f"gtFine/val/lindau/lindau_000000_000019_gtFine_{kind}.png"
    if config.edges:
        instances = np.asarray(Image.open(path)).astype(np.int32)
        assert np.array_equal(sample["input"][-1], naive_edges(instances)) and sample["input"][-1].any()
        assert np.array_equal(edges(instances), naive_edges(instances))
    assert torch.equal(prepare(path, input_spec(images)), sample["input"])
    assert images.preview(sample["input"]).shape == (16, 32, 3)


def test_coloured_maps_are_inputs_and_ids_beside_them_are_scored(city):
    sides = {"a": f"{city}/gtFine/{{split}}/*_gtFine_color.png", "b": f"{city}/leftImg8bit/{{split}}"}
    more = {"labels": f"{city}/gtFine/{{split}}/*_gtFine_labelIds.png", "label_ids": "cityscapes"}
    plain = DataConfig(name="paired", size=16, **sides)
    config = DataConfig(name="paired", size=16, label_size=(16, 32), **sides, **more)
    images, wanted = (open_dataset(settings, "val") for settings in (config, settings(city, "labelIds")))
    for index in range(2):
        sample = images.sample(index, None)
        assert torch.equal(sample["labels"], wanted.sample(index, None)["labels"])
        assert torch.equal(sample["input"], open_dataset(plain, "val").sample(index, None)["input"])
        assert "labels" not in images.sample(index, np.random.default_rng(0))
    back = open_dataset(config.model_copy(update={"direction": "BtoA"}), "test")
    assert torch.equal(back.sample(1, None)["labels"], images.sample(1, None)["labels"])
    assert open_dataset(plain, "val").fingerprint() == images.fingerprint()  # what is trained is the same
    (city / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(
        ValueError, match="lindau_000001_000019_leftImg8bit.png has no partner|color.png has no partner"
    ):
        open_dataset(config, "val")


def test_pairs_side_by_side_have_ids_in_a_folder_of_their_own(tmp_path):
    for split in ("train", "val"):
        for folder, shape in (("", (16, 32, 3)), ("ids", (16, 16))):
            (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                pixels = np.full(shape, number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / split / f"{number}.png")
    config = DataConfig(
        name="paired", root=str(tmp_path), size=16, labels=f"{tmp_path}/ids/{{split}}", num_classes=3
    )
    assert [int(open_dataset(config, "test").sample(i, None)["labels"].max()) for i in range(3)] == [0, 1, 2]


def pix2pix_city(city, folder, *, first, order):
    """Pairs A|B, photo and coloured ids, numbered in an order of the streets' names."""
    for split in ("train", "val"):
        names = sorted((city / "leftImg8bit" / split).rglob("*.png"))
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, place in enumerate(order(range(len(names))), first):
            photo, colours = names[place], str(names[place]).replace("leftImg8bit", "gtFine")
            colours = colours.replace("_gtFine.png", "_gtFine_color.png")
            sides = [Image.open(path).convert("RGB").resize((16, 16), 0) for path in (photo, colours)]
            both = np.concatenate([np.asarray(side) for side in sides], 1)
            Image.fromarray(both).save(folder / split / f"{number}.jpg", quality=95)


@pytest.mark.parametrize("first", rest_exhaustive([0, 1], [0].__contains__))
def test_numbered_pictures_have_the_ids_at_their_place(city, tmp_path, first):
    def config(folder):
        labels = f"{city}/gtFine/{{split}}"  # its ids, not its colours or instances
        return DataConfig(
            name="paired",
            root=str(folder),
            labels=labels,
            label_ids="cityscapes",
            size=16,
            label_size=(16, 32),
        )

    pix2pix_city(city, tmp_path / "numbered", first=first, order=list)
    images = open_dataset(config(tmp_path / "numbered"), "test")
    wanted = open_dataset(settings(city, "labelIds"), "val")
    for index in range(2):
        assert torch.equal(images.sample(index, None)["labels"], wanted.sample(index, None)["labels"])
    pix2pix_city(city, tmp_path / "turned", first=first, order=reversed)
    with pytest.raises(
        ValueError, match=r"pictures are numbered, and .*\d.jpg does not show .*_labelIds.png"
    ):
        open_dataset(config(tmp_path / "turned"), "test")


def test_the_middle_of_a_picture_is_cut_out_before_it_is_resized(tmp_path):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (27, 24, 3), np.uint8)
    for name, pixels in (
        ("a", whole),
        ("l", whole[..., 0] % 5),
        ("m", whole[4:22, 3:21]),
        ("k", whole[4:22, 3:21, 0] % 5),
    ):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")

    def sample(kind, photos, labels, rng=None, **more):
        pair = {"a": photos, "b": photos}
        of_kind = {
            "photos": {"photos": photos},
            "paired": pair | {"labels": labels},
            "labelled": {"photos": photos, "labels": labels},
            "unpaired": pair,
        }
        folders = of_kind[kind]
        classes = {"num_classes": 5, "label_size": 9} if "labels" in folders else {}
        folders = {key: str(tmp_path / name) for key, name in folders.items()}
        return open_dataset(DataConfig(name=kind, size=12, **folders, **classes, **more)).sample(0, rng)

    for kind in ("photos", "paired", "labelled", "unpaired"):
        for seed in (None, 1):
            rngs = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
            cut, made = sample(kind, "a", "l", rngs[0], crop=18), sample(kind, "m", "k", rngs[1])
            assert cut.keys() == made.keys()
            assert all(torch.equal(cut[key], made[key]) for key in cut if key != "name")
    with pytest.raises(ValueError, match=r"24 x 27 pixels, smaller than the 25 x 25 that are cut out of it"):
        sample("photos", "a", "l", crop=25)
    for other in ({"load_size": "native"}, {"target_size": 24}):
        with pytest.raises(
            ValueError, match="crop is for pictures that are resized to one size: remove it, or"
        ):
            sample("paired", "a", "l", crop=18, **other)


def test_label_maps_without_a_class_are_refused(city):
    plain = settings(city, "labelIds", label_ids=None, num_classes=5, void=0)
    with pytest.raises(ValueError, match="no pixel of the 2 label maps has a class: .*metrics.split = 'val'"):
        open_dataset(plain, "test")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"label_ids": "cityscapes", "num_classes": 30}, "goes with num_classes = 20 .* or 35"),
        ({"num_classes": 19}, "num_classes is for label maps: give labels"),
        ({"labels": "x"}, "paired data need num_classes"),
        ({"edges": True}, "edges does not apply"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, line):
    base = {"labels": "x"} if "label_ids" in given else {}
    with pytest.raises(ValueError, match=line):
        DataConfig(name="paired", a="x", b="y", **base, **given)


@pytest.mark.parametrize("name", ["img_align_celeba/{:06d}.jpg", "images1024x1024/{0:05d}/{0:05d}.png"])
def test_faces_in_one_folder_or_many_are_divided(tmp_path, name):
    for number in range(20):
        path = tmp_path / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    config = DataConfig(name="photos", photos=str(tmp_path / name.split("/")[0]), size=16)
    assert [len(open_dataset(config, split)) for split in ("train", "test")] == [18, 2]
