"""Generators of other values than [-1, 1]: what is guessed, what is refused, and what a run makes of them."""

import json

import onnx
import pytest
import torch
from torch import nn

import ganshrink
from ganshrink import nets
from ganshrink.data import TensorInputs
from ganshrink.exporters.note import FileNote, read_note
from ganshrink.exporters.runtime import open_session
from ganshrink.workflow.net_config import NetConfig
from ganshrink.workflow.saved_networks import read_spec
from ganshrink.workflow.values import last_operator, values_for

PHOTOS = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in range(4)]
IMAGES = TensorInputs(PHOTOS)


class Ends(nn.Module):
    """A generator that ends in something, before which its values are spread."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
        self.spread = nn.InstanceNorm2d(3)
        self.end = end

    def forward(self, x):
        return self.end(self.spread(self.body(x)))


def sigmoid_of_255(y):
    return torch.sigmoid(y) * 255


def guessed(network, *, trained=True, **net):
    return values_for(NetConfig(name="mine", **net), network, IMAGES, trained=trained)


@pytest.mark.parametrize(
    ("end", "range_"),
    [
        (torch.tanh, None),
        (torch.sigmoid, (0, 1)),
        (nn.functional.hardsigmoid, (0, 1)),
        (lambda y: torch.sigmoid(y)[:, :, 1:-1, 1:-1], (0, 1)),
        (lambda y: (torch.tanh(y) + 1) / 2, (0, 1)),
        (lambda y: y.clamp(0, 1), (0, 1)),
        (sigmoid_of_255, (0, 255)),
        (lambda y: (torch.tanh(y) + 1) * 127.5, (0, 255)),
        (lambda y: y * 0.4, None),
    ],
)
def test_values_are_guessed_by_the_last_operator_and_the_first_outputs(end, range_, caplog):
    found = guessed(Ends(end))
    assert (found and found.output.range) == range_
    assert (found and found.input.range) == range_
    assert ("net.range = " in caplog.text) == (range_ is not None)


def test_an_untrained_generator_is_judged_by_its_last_operator_alone():
    assert guessed(Ends(sigmoid_of_255), trained=False) is None
    assert guessed(Ends(torch.sigmoid), trained=False).output.range == (0, 1)
    moved = Ends(lambda y: torch.sigmoid(y).permute(0, 2, 3, 1).contiguous())
    assert last_operator(moved, [PHOTOS[0][None]]) == "Sigmoid"
    frozen = Ends(torch.tanh).requires_grad_(False)
    assert last_operator(frozen, [PHOTOS[0][None]]) == "Tanh"


def test_what_is_said_goes_over_a_guess_and_a_class_may_say_it(caplog):
    assert guessed(Ends(torch.sigmoid), range=[-1, 1], output_range=[0, 1]).input.range == (-1, 1)
    normalised = guessed(Ends(torch.sigmoid), mean=[0.5] * 3, std=[0.2] * 3, output_range=[0, 1])
    assert normalised.input.range == (0, 1) and normalised.output.mean == (0,)
    found = guessed(nets.build("rrdb", ngf=4, blocks=1, growth=2), trained=False)
    assert found.input.range == found.output.range == (0, 1)
    assert not caplog.records


@pytest.mark.parametrize(
    ("end", "net"),
    [
        (lambda y: y * 1.5, {}),  # normalised colours
        (lambda y: y * 30, {}),
        (torch.sigmoid, {"range": (0, 255)}),
        (sigmoid_of_255, {"range": (0, 1)}),
        (sigmoid_of_255, {"mean": (0.5,), "std": (0.2,)}),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_training(end, net):
    with pytest.raises(ValueError, match="do not fit .*set net.range to its black and white") as error:
        guessed(Ends(end), **net)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="have 2 numbers, the pictures 3 channels"):
        guessed(Ends(torch.tanh), mean=[0, 0], std=[1, 1])


def compressed(folder, network, **tables):
    options = {
        "task": "image2image",
        "method": {"name": "uniform", "floor": 2},
        "budget": "macs=60%",
        "student": {"max_steps": 2, "epochs": 1, "decay_epochs": 0, "batch_size": 2},
        "latency": {"enabled": False},
        "progress": False,
        **tables,
    }
    return ganshrink.compress(network, None, PHOTOS * 3, run=folder, **options)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_student_takes_and_gives_what_its_original_does(tmp_path):
    network = Ends(torch.sigmoid).eval()
    made = compressed(tmp_path / "run", network, quantization={"mode": "calibrate"})
    levels = (PHOTOS[0][None] + 1) / 2
    with torch.no_grad():
        image, teacher = made.student(levels), network(levels)
    assert image.min() > 0 and image.max() < 1
    data = TensorInputs(PHOTOS[:1])
    [score] = ganshrink.evaluate(made.student, data, ["psnr_teacher"], teacher=made.student).values()
    assert score.value == 100
    spec = read_spec(tmp_path / "run" / "student.safetensors")
    assert spec.values.input.range == spec.values.output.range == (0, 1)
    with torch.no_grad():
        torch.testing.assert_close(ganshrink.load(tmp_path / "run", network)(levels), image)
        whole = ganshrink.load(tmp_path / "run" / "teacher.safetensors", network)
        torch.testing.assert_close(whole(levels), teacher)
    file = tmp_path / "run" / "student.onnx"
    [found] = open_session(file).run(None, {"input": levels.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), image, rtol=0, atol=1e-5)
    props = {prop.key: prop.value for prop in onnx.load(file).metadata_props}
    assert props["input_values"] == props["output_values"] == "[0, 1]"
    assert read_note(file) == FileNote(input=spec.input, values=spec.values)
    assert read_note(file.with_name("student-int8.onnx")) == read_note(file)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["int8"]["psnr_teacher"]["value"] == pytest.approx(
        metrics["student"]["psnr_teacher"]["value"], abs=0.5
    )
    assert "[0, 1]" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.exhaustive
def test_pictures_in_the_file_are_bytes_whatever_the_network_takes(tmp_path):
    network = Ends(sigmoid_of_255).eval()
    made = compressed(tmp_path / "run", network, net={"range": (0, 255)}, export={"image_io": "uint8"})
    picture = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    [found] = open_session(tmp_path / "run" / "student.onnx").run(None, {"input": picture.numpy()})
    with torch.no_grad():
        expected = made.student(picture.float())
    assert expected.max() > 2 and (torch.from_numpy(found).float() - expected).abs().max() <= 1
    entry = json.loads((tmp_path / "run" / "parity.json").read_text())["student.onnx"]
    assert entry["input_values"] == "0..255 uint8" and entry["input_kind"] == "image"
    assert read_note(tmp_path / "run" / "student.onnx").image_io == "uint8"
