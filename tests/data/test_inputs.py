import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import (
    DataConfig,
    InputSpec,
    class_colours,
    input_spec,
    open_dataset,
    prepare,
    preview_input,
    write_png,
)

LABELS = InputSpec(kind="labels", channels=4, size=(8, 8), void=3)
IMAGE = InputSpec(kind="image", channels=3, size=(8, 12))


def test_a_spec_survives_the_json_of_a_weights_file():
    for spec in (LABELS, IMAGE):
        assert InputSpec.model_validate_json(spec.model_dump_json()) == spec


def test_settings_and_open_data_describe_the_same_input(tmp_path):
    config = DataConfig(size=(16, 24))
    assert input_spec(config) == input_spec(open_dataset(config)) == InputSpec(channels=3, size=(16, 24))
    labelled = DataConfig(name="labelled", photos="p", labels="l", num_classes=12, void=11, size=64)
    assert input_spec(labelled) == InputSpec(kind="labels", channels=12, size=(64, 64), void=11)


def test_prepare_gives_what_evaluation_gives(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    ids = np.random.default_rng(1).integers(0, 4, (30, 40)).astype(np.uint8)
    write_png(tmp_path / "photo" / "a.png", pixels)
    write_png(tmp_path / "ids" / "a.png", ids)
    folders = {"a": str(tmp_path / "photo"), "b": str(tmp_path / "photo")}
    paired = DataConfig(name="paired", **folders, size=(16, 24))
    expected = open_dataset(paired).sample(0, None)["input"]
    for image in (tmp_path / "photo" / "a.png", pixels, Image.fromarray(pixels)):
        assert torch.equal(prepare(image, input_spec(paired)), expected)
    folders = {"photos": str(tmp_path / "photo"), "labels": str(tmp_path / "ids")}
    labelled = DataConfig(name="labelled", **folders, num_classes=4, size=(16, 24))
    expected = open_dataset(labelled).sample(0, None)["input"]
    for image in (str(tmp_path / "ids" / "a.png"), ids, Image.fromarray(ids)):
        assert torch.equal(prepare(image, labelled), expected)


def test_prepare_at_another_size():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert prepare(pixels, IMAGE, size=(30, 40)).shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("image", "spec", "message"),
    [
        (np.full((8, 8), 9), LABELS.model_copy(update={"void": None}), r"class id 9 is outside 0\.\.3"),
        (np.zeros((8, 8)), LABELS, "integer array"),
        (Image.new("RGB", (8, 8)), LABELS, "colour picture"),
        (np.zeros((8, 8, 3), np.float32), IMAGE, r"uint8 array \(H, W, 3\), this is float32"),
        (
            np.zeros((8, 8, 3), np.uint8),
            InputSpec(channels=5, size=(8, 8)),
            "at most 4 channels, 5 are wanted",
        ),
    ],
)
def test_pictures_that_do_not_fit_the_generator(image, spec, message):
    with pytest.raises(ValueError, match=message):
        prepare(image, spec)


def test_class_colours_are_distinct():
    for count in (2, 12, 35):
        assert len({tuple(colour) for colour in class_colours(count, void=1).tolist()}) == count


def test_preview_of_pictures_and_of_other_channels():
    assert preview_input(torch.ones(3, 8, 12), IMAGE).tolist() == [[[255] * 3] * 12] * 8
    assert preview_input(torch.ones(1, 8, 12)).tolist() == [[255] * 12] * 8
    assert preview_input(torch.ones(5, 8, 12)).shape == (16, 36)  # a grey tile for each
