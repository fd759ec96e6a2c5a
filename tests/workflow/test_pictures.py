"""Whole runs on pictures of other channels and of two sizes, from the data to the report."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ganshrink
from ganshrink.data import read_image
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.predict import predict
from ganshrink.workflow.recipe import resolve
from telling import rest_exhaustive
from tiny_recipe import tiny

SHORT = {
    "method": {"name": "uniform", "floor": 2},
    "budget": "macs=60%",
    "student": {"max_steps": 2, "epochs": 1, "decay_epochs": 0, "batch_size": 2},
    "latency": {"enabled": False},
    "progress": False,
}


def images(count, channels, size):
    generator = torch.Generator().manual_seed(channels)
    return [torch.rand(channels, *size, generator=generator) * 2 - 1 for _ in range(count)]


def generator(channels, out, up=1):
    layers = [nn.Conv2d(channels, 12, 3, 1, 1), nn.InstanceNorm2d(12, affine=True), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, out * up**2, 3, 1, 1), nn.PixelShuffle(up), nn.Tanh()).eval()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "out", "up", "shown"),
    rest_exhaustive(
        [(1, 2, 1, (16, 32)), (13, 3, 1, (16, 16, 3)), (3, 1, 3, (48, 48))], lambda case: case[0] != 13
    ),
)
def test_pairs_of_any_channels_and_sizes(tmp_path, channels, out, up, shown):
    pairs = list(zip(images(8, channels, (16, 16)), images(8, out, (16 * up, 16 * up)), strict=True))
    task = {"name": "pix2pix", "ndf": 2, "d_layers": 1}  # whose judge sees the input beside the image
    run = tmp_path / "run"
    network = generator(channels, out, up)
    ganshrink.compress(network, None, pairs, task=task, run=run, **SHORT)
    scores = json.loads((run / "metrics.json").read_text())["student"]
    assert {"psnr", "ssim", "psnr_teacher"} <= scores.keys()
    assert scores["psnr"]["protocol"]["size"] == f"{16 * up}x{16 * up}"
    row = json.loads((run / "samples/samples.json").read_text())["rows"][0]
    for kind in ("target", "teacher", "student"):
        with Image.open(run / "samples" / row[kind]) as picture:
            assert np.asarray(picture).shape == shown
    with Image.open(run / "samples" / row["input"]) as picture:  # as large as what is made of it
        assert picture.size == {1: (16, 16), 13: (64, 64), 3: (48, 48)}[channels]
    assert json.loads((run / "parity.json").read_text())["student.onnx"]["max_abs_diff"] < 0.5
    assert (run / "report.html").is_file()
    name = "out.npy" if out == 2 else "out.png"
    np.save(tmp_path / "in.npy", np.random.default_rng(0).random((20, 24, channels)).astype(np.float32))
    [written] = predict(run, tmp_path / "in.npy", tmp_path / name, original=network)
    height, width = 20 * up, 24 * up
    assert (
        np.load(written).shape == (height, width, 2)
        if out == 2
        else read_image(written).size == (width, height)
    )


def test_a_metric_for_colour_refuses_other_channels_before_any_training(tmp_path):
    pairs = list(zip(images(4, 3, (64, 64)), images(4, 4, (64, 64)), strict=True))
    network = generator(3, 4)
    settings = {**SHORT, "metrics": ["psnr", "fd_squeezenet"]}
    with pytest.raises(
        (ValueError, FileNotFoundError), match="fd_squeezenet: .* takes 1 or 3 channels|weights"
    ):
        ganshrink.compress(network, None, pairs, task="pix2pix", run=tmp_path / "run", **settings)
    assert not list((tmp_path / "run" / "stages").iterdir())


def test_vectors_as_inputs_and_volumes_get_a_line(tmp_path):
    volume = [torch.zeros(1, 8, 8, 8)] * 4
    with pytest.raises(ValueError, match=r"a tensor \(1, 8, 8, 8\): pictures are .*volumes"):
        ganshrink.compress(nn.Conv3d(1, 1, 1), None, volume, task="image2image", run=tmp_path / "a", **SHORT)


@pytest.mark.slow
def test_super_resolution_from_folders(tmp_path):
    """By a recipe: small and large pictures in two folders, cropped as they are, and a network that takes 0 to 1."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for folder, (height, width), ending in (("lr", (20, 28), "x4"), ("hr", (80, 112), "")):
            (tmp_path / folder / split).mkdir(parents=True)
            for index in range(2):
                pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / split / f"000{index}{ending}.png")
    sides = {"a": str(tmp_path / "lr/{split}"), "b": str(tmp_path / "hr/{split}")}
    raw = tiny(
        tmp_path / "run",
        net={"name": "srvgg", "ngf": 8, "convs": 2, "scale": 4},
        method={"name": "uniform", "floor": 2},
        teacher={"max_steps": 2},
    )
    raw["net"].pop("blocks", None)
    raw["data"] = {"name": "paired", **sides, "size": 16, "target_size": 64, "load_size": "native"}
    made = compress_recipe(resolve(raw), progress=False)
    assert made.metrics["student"]["psnr"]["protocol"]["size"] == "64x64"
    predict(tmp_path / "run", tmp_path / "lr/test/0000x4.png", tmp_path / "large.png")
    assert read_image(tmp_path / "large.png").size == (112, 80)
