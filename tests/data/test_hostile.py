"""The files of benchmarks/hostile_files.py, each read alone, in a data set, and by a student."""

import os
import warnings

import numpy as np
import pytest
import torch
from benchmarks.hostile_files import CASES, GREY, RGB, Case, saved
from PIL import Image

from ganshrink import nets
from ganshrink.data import DataConfig, InputSpec, check, open_dataset, read_image, read_labels
from ganshrink.data.folders import list_images
from ganshrink.data.photos import Photos
from ganshrink.data.pictures import printable, read_size
from ganshrink.workflow.predict import predict
from ganshrink.workflow.saved_networks import NetworkSpec, save_network

SIZE = 16
SHORT = [case for case in CASES if not case.slow]


def outcome(read, path):
    """What came of a file: pixels, or the line that refuses it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # as the command line does
        try:
            return np.asarray(read(path))
        except (ValueError, OSError) as error:
            return str(error)


def assert_as_expected(found, expected, case, path):
    if isinstance(expected, str):
        assert isinstance(found, str), f"accepted: {found.shape}"
        assert expected in found and printable(path) in found and found.isprintable()
    else:
        assert not isinstance(found, str), found
        assert found.shape == expected.shape
        assert np.abs(found.astype(float) - expected).mean() <= case.tolerance


@pytest.fixture(params=SHORT, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


def test_a_hostile_file_is_the_right_picture_or_one_line(case, tmp_path):
    path = tmp_path / case.file
    case.write(path)
    assert_as_expected(outcome(read_image, path), case.rgb, case, path)
    if case.ids is not None:
        assert_as_expected(outcome(read_labels, path), case.ids, case, path)
    if not isinstance(case.rgb, str):
        assert read_size(path) == case.rgb.shape[:2]  # what is checked before anything is decoded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All of them in one folder."""
    folder = tmp_path_factory.mktemp("hostile") / "train"
    folder.mkdir()
    for case in SHORT:
        case.write(folder / case.file)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "student.safetensors"
    torch.manual_seed(0)
    spec = InputSpec(size=(SIZE, SIZE))
    options = {"name": "incres9", "ngf": 8, "blocks": 1}
    network = nets.build(**options)
    save_network(path, network, NetworkSpec(net=options, example=[[1, 3, SIZE, SIZE]], input=spec))
    return path


def refused(folder):
    """The files that no program may use, but for the folder, which is walked."""
    return [
        folder / case.file
        for case in SHORT
        if isinstance(case.rgb, str) and not (folder / case.file).is_dir()
    ]


@pytest.mark.filterwarnings("ignore::Warning:PIL")
def test_a_data_set_names_every_unusable_file_and_no_other(folder):
    config = DataConfig(name="photos", photos=str(folder.with_name("{split}")), size=SIZE)
    stems = [os.path.splitext(case.file)[0] for case in SHORT]  # noqa: PTH122
    doubles = {stem for stem in stems if stems.count(stem) > 1}
    problems = check(Photos(config, "train"))
    unusable = [line for line in problems if line.startswith("cannot use image")]
    named = [path for path in refused(folder) if any(printable(path) + ":" in line for line in unusable)]
    assert all(line.isprintable() for line in problems)
    left_out = [path for path in refused(folder) if path not in named]
    assert {path.stem for path in left_out} <= doubles
    assert len(unusable) == len(named)
    assert len([line for line in problems if "have the same name" in line]) == len(stems) - len(set(stems))


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:PIL")
def test_predict_makes_a_picture_of_each_file_or_names_it(folder, student, tmp_path):
    for path in folder.iterdir():
        if path.is_dir():
            continue
        unusable = path in refused(folder)
        target = tmp_path / "out.png"
        if unusable:
            with pytest.raises(ValueError, match="cannot use image") as error:
                predict(student, path, target)
            assert printable(path) in str(error.value) and str(error.value).isprintable()
        else:
            assert predict(student, path, target) == [target]
            assert read_image(target).size == read_image(path).size
            target.unlink()
        assert not target.exists()


def test_predict_goes_on_past_an_unusable_file(student, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "c.PNG", "\u00fc" * 125 + "x.png", os.fsdecode(b"d\xff\n.png")):
        saved(RGB, "PNG")(source / name)
    (source / "b.png").write_text("no picture")
    (source / ".hidden.png").write_text("no picture")
    (source / "folder.png").mkdir()
    os.mkfifo(source / "pipe.png")
    with pytest.raises(
        ValueError, match=r"^2 of 6 images could not be used, .*b\.png: .*; .*pipe\.png: "
    ) as error:
        predict(student, source, target)
    assert str(error.value).isprintable()
    assert sorted(path.name for path in target.iterdir()) == sorted(
        ["a.png", "c.png", "\u00fc" * 125 + "x.png", os.fsdecode(b"d\xff\n.png")]
    )


def test_predict_never_writes_over_its_input(student, tmp_path):
    saved(RGB, "PNG")(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for target in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(ValueError, match="a.png is an input itself"):
            predict(student, tmp_path / "a.png", target)
    with pytest.raises(ValueError, match="a.png is an input itself"):
        predict(student, tmp_path, tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before


def test_predict_says_what_is_missing_or_in_the_way(student, tmp_path):
    saved(RGB, "PNG")(tmp_path / "a.png")
    saved(RGB, "BMP")(tmp_path / "a.bmp")
    (tmp_path / "empty").mkdir()
    for source, target, words in [
        ("none.png", "x.png", "there is no image or folder .*none.png"),
        ("empty", "out", "no images in .*empty"),
        ("a.png", "x.bmp", "written as PNG, JPG, JPEG, WEBP, NPY; name a .png file"),
        ("*.gif", "out", r"no images match .*\*\.gif"),
        (".", "out", "2 images in .* would be written to .*a.png"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            predict(student, tmp_path / source, tmp_path / target)


def test_two_spellings_of_one_name_are_partners(tmp_path):
    for side, name in (("a", "caf\u00e9.png"), ("b", "cafe\u0301.png")):
        (tmp_path / side).mkdir()
        saved(RGB, "PNG")(tmp_path / side / name)
    sides = {side: str(tmp_path / side) for side in "ab"}
    dataset = open_dataset(DataConfig(name="paired", **sides, size=SIZE))
    assert len(dataset) == 1
    saved(RGB, "PNG")(tmp_path / "a" / "cafe\u0301.png")
    with pytest.raises(ValueError, match="have the same name"):
        open_dataset(DataConfig(name="paired", **sides, size=SIZE))


def test_hidden_files_and_folders_are_left_out_and_a_linked_folder_is_named(tmp_path):
    (tmp_path / "town.png").mkdir()
    (tmp_path / ".thumbnails").mkdir()
    for name in ("1.png", "town.png/2.PNG", ".thumbnails/1.png", "._1.png"):
        saved(RGB, "PNG")(tmp_path / name)
    found, problems = list_images(tmp_path)
    assert list(found) == ["1", "town.png/2"] and problems == []
    (tmp_path / "again").symlink_to(tmp_path)
    found, problems = list_images(tmp_path)
    assert len(found) == 2
    [line] = problems
    assert "again is a link to a folder" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot read folder" in list_images(tmp_path)[1][0]


def test_names_that_are_no_text_survive_fingerprint_sample_and_message(tmp_path):
    name = os.fsdecode(b"<b>\xff\n\x1b[31m.png")
    saved(RGB, "PNG")(tmp_path / name)
    dataset = open_dataset(DataConfig(name="photos", photos=str(tmp_path), size=SIZE))
    assert dataset.fingerprint() == dataset.fingerprint()
    assert dataset.sample(0, None)["name"] == r"<b>\xff\n\x1b[31m"


def test_a_damaged_png_or_jpeg_never_passes_as_another_picture(tmp_path):
    """One changed byte in a PNG, any missing end of a JPEG: the picture as it was, or a refusal."""
    path = tmp_path / "a.png"
    saved(RGB, "PNG")(path)
    content = path.read_bytes()
    refusals = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        found = outcome(read_image, path)
        assert isinstance(found, str) or np.array_equal(found, RGB), place
        refusals += isinstance(found, str)
    assert refusals > len(content) * 0.9
    path = tmp_path / "a.jpg"
    for options in ({}, {"progressive": True}):
        Image.fromarray(GREY).save(path, **options)
        content = path.read_bytes()
        for length in range(0, len(content) - 2, 7):
            path.write_bytes(content[:length])
            assert isinstance(outcome(read_image, path), str), length
