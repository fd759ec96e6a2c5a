"""Device profiles as files."""

import tomllib
from pathlib import Path

import pytest
import tomli_w
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.latency.profiles import Fit, Machine, read_profile, write_profile
from made_up_device import profile_of

IMAGE = torch.zeros(1, 3, 8, 12)


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8)),
        *(nn.ConvTranspose2d(8, 6, 3, stride=2), nn.Conv2d(6, 3, 1)),
    ).eval()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "phone.toml"
    write_profile(profile_of(network(), [IMAGE]), path)
    return path


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    net = network()
    channels = trace(net, IMAGE)
    for machine in (
        Machine(name='a "phone" é', cores=8),
        Machine(name="x", cores=1, mhz=999.5, governor="y"),
    ):
        profile = profile_of(
            net, [IMAGE], machine=machine, fit=Fit(layers=1 / 3, nanoseconds=1e-9, constant=0, off_by=0.1)
        )
        before = profile.times()(channels, channels.full_widths())
        write_profile(profile, tmp_path / "new" / "phone.toml")
        again = read_profile(tmp_path / "new" / "phone.toml")
        assert again.model_dump() == profile.model_dump()
        assert again == profile_of(net, [IMAGE], machine=machine, fit=profile.fit)
        assert again.times()(channels, channels.full_widths()) == before


def test_what_it_says_of_itself() -> None:
    profile = profile_of(network(), [IMAGE], threads=2, runtime="onnxruntime", version="1.2")
    assert profile.describe() == "a made-up phone, onnxruntime 1.2, 2 threads"
    assert profile.summary() == (
        "7.5 ms for the whole network on a made-up phone, onnxruntime 1.2, 2 threads; it likes widths that are "
        "multiples of 4; estimates are off by up to 4 %"
    )
    assert "; it likes all widths alike; " in profile.model_copy(update={"step": 1}).summary()


def one_line(path: Path) -> str:
    with pytest.raises(ValueError) as told:
        read_profile(path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)
    return str(told.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "phone.toml", tmp_path):  # a folder is none either
        with pytest.raises(
            FileNotFoundError, match="`ganshrink measure RECIPE --device-profile .*` makes one"
        ):
            read_profile(path)


@pytest.mark.parametrize("content", [b"step = [", b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "phone.toml"
    path.write_bytes(content)
    assert "not valid TOML" in one_line(path)


def test_a_file_that_breaks_off(file: Path) -> None:
    """Wherever a copy stopped, it is refused; at the end of a layer there is nothing to tell by."""
    whole = file.read_bytes()
    for size in range(0, len(whole), len(whole) // 23):
        text = whole[:size]
        if text and len(text.rstrip()) and text.rstrip().endswith(b"]\n]"):
            continue
        file.write_bytes(text)
        assert one_line(file)


def test_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(Path("pyproject.toml").read_text())
    assert "is no device profile" in one_line(path) and "measure it again" in one_line(path)


CHANGES = {
    "a later format": ({"format": 2}, "format"),
    "no step": ({"step": None}, "step"),
    "step 0": ({"step": 0}, "step"),
    "no time": ({"original": 0}, "original"),
    "no layers": ({"layer": []}, "layer"),
    "a word too many": ({"colour": "red"}, "colour"),
    "another device": ({"device": "tpu"}, "device"),
    "a negative factor": (
        {"fit": {"layers": -1, "nanoseconds": 0, "constant": 0, "off_by": 0}},
        "fit.layers",
    ),
    "no threads": ({"threads": 0}, "threads"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_values(file: Path, change: str) -> None:
    changed, where = CHANGES[change]
    raw = tomllib.loads(file.read_text()) | changed
    file.write_text(tomli_w.dumps({key: value for key, value in raw.items() if value is not None}))
    assert f"is no device profile: {where}: " in one_line(file)


LAYERS = {
    "a row is missing": lambda layer: layer["ms"].pop(),
    "a row is short": lambda layer: layer["ms"][0].pop(),
    "no times": lambda layer: layer.update(ms=[]),
    "widths that fall": lambda layer: layer["inside"].__setitem__(0, 7),
    "no widths": lambda layer: layer.update(inside=[]),
    "a negative time": lambda layer: layer["ms"][0].__setitem__(0, -1.0),
    "not a number": lambda layer: layer["ms"][0].__setitem__(0, float("nan")),
}


@pytest.mark.parametrize("change", LAYERS)
def test_damaged_layers(file: Path, change: str) -> None:
    raw = tomllib.loads(file.read_text())
    layer = max(raw["layer"], key=lambda one: len(one["inside"]) * len(one["outside"]))
    LAYERS[change](layer)
    file.write_text(tomli_w.dumps(raw))
    assert "is no device profile: layer." in one_line(file)
