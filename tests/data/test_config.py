import pytest
from pydantic import ValidationError

from ganshrink.data import DataConfig
from ganshrink.data.locate import find_folder


@pytest.mark.parametrize(("size", "load"), [(256, (286, 286)), (128, (143, 143)), ((64, 128), (72, 143))])
def test_the_default_load_size_is_the_papers_286_to_256(size, load):
    assert DataConfig(size=size).load_height_width == load


def test_every_setting_is_described_and_frozen():
    assert all(field.description for field in DataConfig.model_fields.values())
    with pytest.raises(ValidationError, match="frozen"):
        DataConfig().size = 3


LABELLED = {"name": "labelled", "photos": "p", "labels": "l", "num_classes": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": 3}, "Extra inputs"),
        ({"size": 4}, "size = 4 x 4: each side must be 8 to 8192"),
        ({"size": [64, 0]}, "greater than 0"),
        ({"size": 64, "load_size": 63}, "smaller than size"),
        ({"root": "x"}, "root does not apply to name = 'facades-synthetic'"),
        ({"name": "paired"}, "need either root"),
        ({"name": "paired", "a": "x"}, "both a and b"),
        ({"name": "paired", "root": "x", "a": "x", "b": "y"}, "need either root"),
        ({"name": "paired", "root": "x", "seed": 3}, "seed does not apply"),
        ({"name": "labelled", "photos": "x", "labels": "y"}, "need num_classes"),
        ({**LABELLED, "void": 3}, "outside the 3 channels"),
        ({**LABELLED, "direction": "BtoA"}, "labelled data go one way: remove direction"),
        ({**LABELLED, "photos": ["x", "y"]}, "one folder of photos, not several"),
        ({"name": "unpaired"}, r"unpaired data need either root \(trainA, trainB, ...\) or a and b"),
        ({"name": "unpaired", "b": "x"}, "unpaired data in two folders need both a and b"),
        ({"name": "unpaired", "root": "x", "labels": "y"}, "labels does not apply to name = 'unpaired'"),
        ({"name": "photos"}, "photos need photos"),
        ({"name": "photos", "photos": []}, "photos need photos"),
        ({"name": "photos", "photos": "x", "direction": "BtoA"}, "photos data go one way"),
        ({"name": "photos", "photos": "x", "num_classes": 3}, "num_classes does not apply"),
        ({"name": "paired", "root": "x", "direction": "both"}, "needs unpaired data, these are paired"),
        ({"direction": "both"}, "needs unpaired data, these are facades-synthetic"),
        ({"counts": {"train": 0}}, "greater than 0"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": [64, 96], "seed": 2},
        LABELLED,
        {"name": "paired", "root": "x"},
        {"name": "unpaired", "a": "x", "b": "y", "direction": "both"},
        {"name": "photos", "photos": ["x", "y"]},
    ],
)
def test_settings_survive_json(settings):
    config = DataConfig(**settings)
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
    assert DataConfig(**config.model_dump(exclude_none=True)) == config


def test_relative_folders_start_at_the_variable_then_at_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "one" / "train").mkdir(parents=True)
    monkeypatch.setenv("GANSHRINK_DATA", str(tmp_path / "one"))
    assert find_folder("{split}", "train", setting="root") == tmp_path / "one" / "train"
    assert find_folder(str(tmp_path / "one"), "train", setting="root") == tmp_path / "one"
    monkeypatch.delenv("GANSHRINK_DATA")
    monkeypatch.chdir(tmp_path)
    assert find_folder("one/{split}", "train", setting="root") == tmp_path / "one" / "train"


@pytest.mark.parametrize("variable", [True, False])
def test_a_missing_folder_names_the_path_tried_and_both_ways_out(tmp_path, monkeypatch, variable):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANSHRINK_DATA", raising=False)
    if variable:
        monkeypatch.setenv("GANSHRINK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        find_folder("maps/{split}", "val", setting="root")
    message = str(error.value)
    assert str(tmp_path / "maps" / "val") in message
    assert "data.root" in message and "absolute path" in message and "GANSHRINK_DATA" in message
    assert "\n" not in message
