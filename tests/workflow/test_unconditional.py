"""Latent vectors through the whole road: a run, its pictures and scores, what is drawn from its student, what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from ganshrink import predict
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.prepare import open_data
from ganshrink.workflow.recipe import resolve
from tiny_recipe import tiny

SAGAN = {"name": "sagan", "ngf": 8, "size": 16}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        (folder / split).mkdir()
        for number in range(count):
            pixels = noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
    return folder


def recipe(folder, photos, **tables):
    given = {
        "net": SAGAN,
        "data": {"name": "latents", "photos": f"{photos}/{{split}}", "size": 16, "latent": 6, "latents": 4},
        "task": {"name": "unconditional", "ndf": 4, "d_layers": 2},
        "method": {"name": "uniform"},
        "metrics": {"names": ["psnr_teacher"]},
    }
    raw = tiny(folder)
    return resolve({**raw, **given, **tables})


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "task"),
    [
        (SAGAN, {}),
        (
            {"name": "stylegan2", "ngf": 4, "size": 16},
            {"gan_mode": "vanilla", "discriminator": "residual", "lambda_r1": 1, "lambda_path": 2},
        ),
    ],
    ids=["sagan", "stylegan2"],
)
def test_a_run_ends_with_pictures_scores_and_a_file_of_vectors(tmp_path, photos, net, task):
    task = {"name": "unconditional", "ndf": 4, "d_layers": 2, **task}
    given = recipe(tmp_path / "run", photos, net=net, task=task, export={"onnx": True})
    compress_recipe(given, progress=False)
    run = tmp_path / "run"
    [row, *_] = json.loads((run / "samples/samples.json").read_text())["rows"]
    assert set(row) == {"name", "teacher", "student"}
    report = (run / "report.html").read_text()
    assert "<th>Input" not in report and "It takes vectors of 6 normal numbers." in report
    assert "student.onnx OUT --count 16 --seed 0" in report
    value = json.loads((run / "metrics.json").read_text())["student"]["psnr_teacher"]
    assert value["protocol"]["latents"] == "seed 0" and value["protocol"]["images"] == 4
    parity = json.loads((run / "parity.json").read_text())["student.onnx"]
    assert parity["input_kind"] == "latent" and parity["batches"] == [1, 2]
    drawn = predict(run, (), tmp_path / "drawn", count=3, seed=1)
    assert [path.name for path in drawn] == ["0000.png", "0001.png", "0002.png"]
    first, second, *_ = (np.asarray(Image.open(path), int) for path in drawn)
    assert first.shape == (16, 16, 3) and (first != second).any()
    [alone] = predict(run, (), tmp_path / "one.png", count=1, seed=1, runtime="onnxruntime")
    assert abs(np.asarray(Image.open(alone), int) - first).max() <= 1
    with pytest.raises(ValueError, match="makes pictures of latent vectors: leave pictures"):
        predict(run, drawn[0], tmp_path / "out")


def test_what_does_not_go_together_is_refused_at_once(tmp_path, photos):
    with pytest.raises(ValueError, match="'resnet6' takes pictures, and these data have latent vectors"):
        compress_recipe(recipe(tmp_path, photos, net={"name": "resnet6", "ngf": 4}), progress=False)
    with pytest.raises(ValueError, match="task unconditional needs latent vectors as inputs"):
        open_data(recipe(tmp_path, photos, data={"size": 16}))
    with pytest.raises(ValueError, match="task pix2pix needs a target image for each input"):
        open_data(recipe(tmp_path, photos, task={"name": "pix2pix"}))
    assert not list(tmp_path.glob("stages/*"))
