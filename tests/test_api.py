"""The Python API on a network that is not ours."""

import json

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink.data import TensorPairs
from ganshrink.workflow.verbs import load_networks


class Mine(nn.Module):
    """A user's generator: its own layout, a concat, no affine norms."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 16, 3, padding=1)
        self.inner = nn.Sequential(
            nn.InstanceNorm2d(16), nn.ReLU(inplace=True), nn.Conv2d(16, 24, 3, padding=1)
        )
        self.exit = nn.Conv2d(40, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        return self.exit(torch.cat([x, self.inner(x)], 1)).tanh()


def pairs(count: int = 11):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    return [(image, -image) for image in images]


SETTINGS = {
    "student": {"epochs": 1, "decay_epochs": 0, "batch_size": 5, "accelerator": "cpu"},
    "task": {"name": "pix2pix", "ndf": 4},
    "method": {"name": "cat", "floor": 2, "taps": ["entry"]},
    "latency": {"enabled": False},
    "export": {"onnx": False},
    "progress": False,
}


def test_the_names_that_others_rely_on_are_there():
    names = "trace extract Plan Budget compress train evaluate export measure report"
    assert all(callable(getattr(ganshrink, name)) for name in names.split())
    assert callable(ganshrink.pruning.zeroed) and callable(ganshrink.nets.build)
    assert callable(ganshrink.pruning.allocate.bisect_threshold) and callable(
        ganshrink.pruning.scores.norm_scale
    )
    with pytest.raises(AttributeError, match="has no attribute 'compres'"):
        ganshrink.compres  # noqa: B018


@pytest.mark.slow
def test_a_users_own_module_is_made_small(tmp_path):
    model = Mine()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = torch.zeros(1, 3, 32, 32)
    outcome = ganshrink.compress(model, example, pairs(), budget="macs=50%", run=tmp_path, **SETTINGS)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert outcome.student(example).shape == (1, 3, 32, 32)
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost == outcome.cost
    assert cost["student"]["macs"]["exact"] <= cost["teacher"]["macs"]["exact"] // 2
    assert cost["student"]["params"] == sum(p.numel() for p in outcome.student.parameters())
    assert outcome.metrics["student"]["psnr"]["protocol"]["images"] == 2  # every tenth of eleven
    bases = {
        group["basis"]
        for group in json.loads((tmp_path / "plan.json").read_text())["groups"]
        if "basis" in group
    }
    assert "L2" in bases  # no norm follows the second convolution
    assert (tmp_path / "report.html").is_file()

    again = load_networks(tmp_path, original=Mine())["student"]
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(x), outcome.student.eval()(x))
    with pytest.raises(ValueError, match="pass it uncut"):
        load_networks(tmp_path)


def test_evaluate_scores_any_generator():
    values = ganshrink.evaluate(nn.Identity(), TensorPairs([(x, x) for x, _ in pairs()]), ["psnr", "ssim"])
    with pytest.raises(ValueError, match="^unknown metric 'fids'"):
        ganshrink.evaluate(nn.Identity(), TensorPairs(pairs()), ["fids"])
    assert values["psnr"].value == 100 and values["ssim"].value == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "macs=0.01%"}, "smallest reachable"),
        ({"budget": "latency=3ms"}, "must be latency=AMOUNT@DEVICE"),
        ({"student": {"epocs": 1}}, "did you mean 'epochs'"),
        ({"method": "dog"}, "method.name: unknown method 'dog'"),
        ({"data": []}, "no pairs"),
    ],
)
def test_bad_calls_are_refused_in_a_line(tmp_path, change, message):
    call = {"data": pairs(), "budget": "macs=50%", "run": tmp_path, **SETTINGS, **change}
    with pytest.raises(ValueError, match=message):
        ganshrink.compress(Mine(), torch.zeros(1, 3, 32, 32), **call)


class Styled(nn.Module):
    """A user's generator of three inputs: an image, a style vector and a class id."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.style = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(5, 16)
        self.kind, self.exit = nn.Embedding(4, 16), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, style: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        moved = (self.style(style) + self.kind(kind))[:, :, None, None]
        return self.exit((self.entry(x) + moved).relu()).tanh()


def styled_pairs():
    styles = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    return [((x, styles[i], torch.tensor(i % 4)), target) for i, (x, target) in enumerate(pairs())]


@pytest.mark.slow
def test_inputs_alone_are_enough(tmp_path):
    inputs = [image for image, _ in pairs()]
    settings = SETTINGS | {"task": "image2image"}
    outcome = ganshrink.compress(Mine(), data=inputs, budget="macs=50%", run=tmp_path, **settings)
    assert outcome.cost["student"]["macs"]["exact"] <= outcome.cost["teacher"]["macs"]["exact"] // 2
    assert outcome.cost["input"] == [3, 32, 32]  # the first sample stands for all
    assert set(outcome.metrics["student"]) == {"psnr_teacher", "ssim_teacher"}
    assert outcome.metrics["student"]["psnr_teacher"]["protocol"]["images"] == 2
    rows = json.loads((tmp_path / "samples/samples.json").read_text())["rows"]
    assert set(rows[0]) == {"name", "input", "teacher", "student"}
    events = (tmp_path / "stages/distill/events.jsonl").read_text()
    assert "G_recon" in events and "G_dist" in events and "D_real" not in events


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_generator_of_several_inputs_is_made_small(tmp_path):
    model = Styled()
    example = torch.zeros(1, 3, 16, 16), torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64)
    settings = SETTINGS | {
        "student": SETTINGS["student"] | {"channels_last": True},
        "export": {"onnx": True},
        "latency": {"enabled": True, "seconds": 0.1},
    }
    outcome = ganshrink.compress(model, example, styled_pairs(), budget="macs=50%", run=tmp_path, **settings)
    assert outcome.cost["input"] == [[3, 16, 16], [5], []]
    assert outcome.cost["student"]["macs"]["exact"] <= outcome.cost["teacher"]["macs"]["exact"] // 2
    parity = json.loads((tmp_path / "parity.json").read_text())["student.onnx"]
    assert parity["sizes"] == ["16x16"]  # the example's, at which costs count, not the data's
    row = json.loads((tmp_path / "samples/samples.json").read_text())["rows"][0]
    assert set(row) == {"name", "input", "target", "teacher", "student"}
    assert "3×16×16 and 5" in (tmp_path / "report.html").read_text()

    again = load_networks(tmp_path, original=Styled())["student"]
    x = torch.rand(2, 3, 32, 32), torch.randn(2, 5), torch.tensor([0, 3])
    assert torch.equal(again(*x), outcome.student.eval()(*x))
    with pytest.raises(ValueError, match="student.safetensors takes 3 inputs, and a picture is one"):
        ganshrink.predict(tmp_path, tmp_path, tmp_path)


class Returning(nn.Module):
    """A generator that returns something of its own making."""

    def __init__(self, make) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 3, 1), make

    def forward(self, x: torch.Tensor):
        return self.make(self.conv(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda image: (image, image), "returns a tuple of 2, not one image: wrap it in a module"),
        (lambda image: {"image": image}, "returns a dict of 1, not one image"),
    ],
)
def test_what_is_not_one_picture_is_refused(tmp_path, make, message):
    settings = SETTINGS | {"task": "image2image"}
    with pytest.raises(ValueError, match=message):
        ganshrink.compress(Returning(make), data=[x for x, _ in pairs()], run=tmp_path, **settings)


IMAGE, STYLE, KIND = torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [x for x, _ in pairs()]}, "^task pix2pix learns from pairs .input, target.: element 0"),
        ({"task": "image2image", "data": pairs()}, "a sample of the data 2 inputs: .* without targets"),
        ({"task": "image2image", "data": pairs(), "example": None}, "cannot take the data's inputs .* and "),
        ({"data": None}, "data must be a sequence or a data set, got NoneType"),
        ({"example": IMAGE[0]}, r"is \(3, 32, 32\), where the data have \(B, 3, 32, 32\)"),
        ({"example": IMAGE[:, :2]}, r"is \(1, 2, 32, 32\), where the data have"),
        ({"example": "image.png"}, "the example must be a tensor, .* got str"),
        ({"example": (IMAGE, STYLE)}, "the example has 2 inputs, a sample of the data 1 input"),
        (
            {"example": (IMAGE, STYLE[:, :3], KIND), "data": styled_pairs()},
            r"input 1 of the example is \(1, 3\)",
        ),
        (
            {"example": (IMAGE, KIND[:, None].repeat(1, 5), KIND), "data": styled_pairs()},
            "give both one type",
        ),
        (
            {"task": "cyclegan", "data": styled_pairs(), "example": None},
            "cyclegan learns from two sets of unpaired images: give the settings",
        ),
    ],
)
def test_data_and_example_that_do_not_fit_are_refused(tmp_path, change, message):
    call = {"example": IMAGE, "data": pairs(), "budget": "macs=50%", "run": tmp_path, **SETTINGS, **change}
    with pytest.raises(ValueError, match=message) as error:
        ganshrink.compress(Mine(), **call)
    assert "\n" not in str(error.value)
