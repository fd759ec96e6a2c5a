"""The way of a student to its file in integers: in a run, and afterwards."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import ganshrink
from ganshrink import nets
from ganshrink.data import open_dataset, to_uint8
from ganshrink.exporters.int8 import ParityError
from ganshrink.exporters.note import read_note
from ganshrink.quant import Grid, LayerGrids, QuantConfig, QuantizationConfig
from ganshrink.workflow.compress import compress, compress_recipe
from ganshrink.workflow.int8 import _relieved
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.verbs import export_run, load_networks, quantize_run
from tiny_recipe import tiny

pytestmark = pytest.mark.slow

FILE = "student-int8.onnx"


def small(folder: Path, **tables) -> dict:
    return tiny(
        folder, net={"name": "resnet9", "ngf": 4, "blocks": 1}, method={"search": {"floor": 1}}, **tables
    )


def read(path: Path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that made an INT8 file on its way."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    tables = {
        "quantization": {"mode": "calibrate", "images": 3},
        "export": {"onnx": True, "image_io": "uint8"},
    }
    compress_recipe(resolve(small(folder, **tables)), progress=False)
    return folder


@pytest.mark.exhaustive
def test_what_ships_is_scored_shown_and_compared(finished):
    metrics, cost = read(finished / "metrics.json"), read(finished / "cost.json")
    assert list(metrics)[-3:] == ["teacher", "student", "int8"]
    assert metrics["int8"].keys() == metrics["student"].keys()
    assert cost["int8"]["params"] == cost["student"]["params"]
    assert (
        cost["int8"]["bytes"] < 0.6 * cost["student"]["bytes"]
    )  # scales weigh something in so small a network
    parity = read(finished / "parity.json")
    assert set(parity) == {"student.onnx", FILE} and parity[FILE]["images"] == 2
    found = read(finished / "quantization.json")
    assert found["config"]["mode"] == "calibrate" and found["trained"] is None
    assert found["bytes"]["file"] == (finished / FILE).stat().st_size
    [row, _] = read(finished / "samples/samples.json")["rows"]
    shown = np.asarray(Image.open(finished / "samples" / row["int8"])).astype(int)
    picture = open_dataset(resolve(small(finished)).data, "test").sample(0, None)["input"][None]
    levels = ((picture + 1) * 127.5).round().to(torch.uint8).numpy()
    [made] = onnxruntime.InferenceSession(str(finished / FILE)).run(None, {"input": levels})
    assert abs(made[0].transpose(1, 2, 0).astype(int) - shown).max() <= 1
    with torch.no_grad():
        student = to_uint8(load_networks(finished)["student"](picture)[0]).astype(int)
    assert 0 < abs(shown - student).mean() < 3


@pytest.mark.exhaustive
def test_verbs_know_the_file(finished):
    again = ganshrink.evaluate(str(finished), "metrics.names=['psnr_teacher']")
    assert list(again)[-3:] == ["teacher", "student", "int8"]
    rows = ganshrink.measure(str(finished), threads=1, seconds=0.1)["rows"]
    assert {row["runtime"] for row in rows if row["network"] == "int8"} >= {"onnxruntime"}
    assert set(ganshrink.export(str(finished))) == {"student.onnx", "teacher.onnx", FILE}


@pytest.mark.exhaustive
def test_any_finished_run_is_quantized_by_one_call(tmp_path):
    compress_recipe(resolve(small(tmp_path)), progress=False)
    assert not (tmp_path / FILE).exists() and "int8" not in load_networks(tmp_path)
    student = (tmp_path / "student.safetensors").read_bytes()
    words = ["quantization.images=2", "quantization.exclude=['up.0']"]
    found = ganshrink.quantize(str(tmp_path), *words, progress=False)
    assert found["config"]["mode"] == "calibrate" and found["float"] == {"up.0": "it is excluded"}
    assert list(read(tmp_path / "metrics.json"))[-3:] == ["teacher", "student", "int8"]

    tuned = quantize_run(
        tmp_path,
        ["quantization.mode=finetune", "quantization.max_steps=2", "quantization.images=2"],
        progress=False,
    )
    assert tuned["config"]["max_steps"] == 2
    assert [stage["name"] for stage in read(tmp_path / "stages.json")][-1] == "int8"
    done = read(tmp_path / "stages/int8/done.json")
    assert done["made_from"]["task"]["lr"] == pytest.approx(2e-5)  # a tenth of the task's
    assert (tmp_path / "student.safetensors").read_bytes() == student
    file = (tmp_path / FILE).read_bytes()
    export_run(tmp_path, formats=["onnx-int8"])  # made again, it is the same: not a calibrated one
    assert (tmp_path / FILE).read_bytes() == file
    assert read(tmp_path / "quantization.json") == tuned
    with pytest.raises(ValueError, match="quantize takes quantization.KEY=VALUE, not 'data'"):
        quantize_run(tmp_path, ["data.size=64"])
    with pytest.raises(ValueError, match="quantization.weight_bits"):
        quantize_run(tmp_path, ["quantization.weight_bits=9"])


@pytest.mark.exhaustive
def test_quantize_trains_by_the_losses_of_the_student(tmp_path):
    student = {"lambda_shift": 3, "log_every": 1, "max_steps": 1}
    compress_recipe(resolve(small(tmp_path, student=student)), progress=False)
    words = ["quantization.mode=finetune", "quantization.max_steps=1", "quantization.images=2"]
    quantize_run(tmp_path, words, progress=False)
    [line] = (tmp_path / "stages/int8/events.jsonl").read_text().splitlines()
    assert json.loads(line)["losses"]["G_shift"] > 0


def test_a_network_that_can_have_no_file_is_refused_before_anything_is_trained(tmp_path):
    every = [
        path
        for path, module in nets.build("resnet9", ngf=4, blocks=1).named_modules()
        if hasattr(module, "stride")
    ]
    quantization = {"mode": "calibrate", "exclude": every}
    with pytest.raises(ValueError, match="quantization would fail after the training.*can be quantized"):
        compress_recipe(resolve(small(tmp_path, quantization=quantization)), progress=False)
    assert not list((tmp_path / "stages").iterdir())


def test_a_layer_that_is_not_there_is_missed_before_anything_is_trained(tmp_path):
    quantization = {"mode": "calibrate", "exclude": ["up.99"]}
    with pytest.raises(ValueError, match="exclude: the network has no convolution 'up.99'"):
        compress_recipe(resolve(small(tmp_path, quantization=quantization)), progress=False)
    assert not list((tmp_path / "stages").iterdir())


@pytest.mark.exhaustive
def test_what_an_export_asks_for_holds_for_its_file_in_integers_too(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    export_run(run, formats="onnx-int8", image_io="float32", licence="MIT")
    assert read(run / "parity.json")[FILE]["image_io"] == "float32"
    assert read_note(run / FILE).provenance["licence"] == "MIT"


@pytest.mark.exhaustive
def test_what_is_asked_wrongly_costs_no_file(finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="no convolution 'up.99'"):
        quantize_run(finished, ["quantization.exclude=['up.99']"], progress=False)
    assert all((finished / name).read_bytes() == content for name, content in before.items())


def test_after_a_refusal_the_inputs_that_round_worst_are_left_in_float(caplog):
    byte, snrs = Grid(0.1, 0, 0, 255), {"a": 30.0, "b": 30.9, "c": 32.0, "d": 40.0, "e": 41.0, "stem": None}
    grids = {path: LayerGrids(None if snr is None else byte, byte, snr) for path, snr in snrs.items()}
    with caplog.at_level(logging.INFO):
        once = _relieved(grids, "38 dB")
    assert "38 dB; once more with the inputs that round worst in float: a (30 dB), b (31 dB)" in caplog.text
    assert [path for path, found in once.items() if found.input is None] == ["a", "b", "stem"]
    twice = _relieved(once, "39 dB")
    assert [path for path, found in twice.items() if found.input is not None] == ["d", "e"]
    with pytest.raises(ParityError, match="39.5 dB"):  # more than half are gone
        _relieved(twice, "39.5 dB")


def test_a_student_trained_in_integers_keeps_its_grids_unless_told_otherwise():
    trained = QuantConfig(activation_bits=6, limit=3)
    settings = QuantizationConfig().ready(trained, {})
    assert (settings.mode, settings.activations, settings.limit) == ("calibrate", "fixed", 3)
    assert settings.levels == "paper" and not settings.per_channel
    assert QuantizationConfig().ready(trained, {"limit": 2}).limit == 2
    own = QuantizationConfig(mode="finetune").ready(None, {})
    assert (own.mode, own.activations, own.per_channel) == ("finetune", "observed", True)


@pytest.mark.exhaustive
def test_data_in_memory_are_quantized_where_they_are(tmp_path):
    torch.manual_seed(0)
    pairs = [(torch.rand(3, 16, 16) * 2 - 1, torch.rand(3, 16, 16) * 2 - 1) for _ in range(12)]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 3, 3, padding=1),
        torch.nn.Tanh(),
    )
    tables = {key: tiny(tmp_path)[key] for key in ("export", "latency")}
    outcome = compress(
        net,
        None,
        pairs,
        {"name": "uniform"},
        "macs=60%",
        {"name": "pix2pix", "lambda_gan": 0},
        run=tmp_path,
        progress=False,
        student={"max_steps": 1, "accelerator": "cpu"},
        quantization={"mode": "calibrate"},
        **tables,
    )
    assert "int8" in outcome.metrics
    with pytest.raises(ValueError, match="made from data in memory"):
        quantize_run(tmp_path, net=None)
