"""The Python API on a network that is not ours."""

import json

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink.data import TensorPairs
from ganshrink.finished import load_networks


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
    assert callable(ganshrink.channels.zeroed) and callable(ganshrink.nets.build)
    assert callable(ganshrink.channels.allocate.bisect_threshold) and callable(
        ganshrink.channels.scores.norm_scale
    )
    with pytest.raises(AttributeError, match="has no attribute 'compres'"):
        ganshrink.compres  # noqa: B018


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


def test_a_users_student_needs_the_users_network_to_be_loaded(tmp_path):
    ganshrink.compress(
        Mine(), torch.zeros(1, 3, 32, 32), pairs(), budget="macs=50%", run=tmp_path, **SETTINGS
    )
    with pytest.raises(ValueError, match="pass the uncut network"):
        load_networks(tmp_path)


def test_evaluate_scores_any_generator():
    values = ganshrink.evaluate(nn.Identity(), TensorPairs([(x, x) for x, _ in pairs()]), ["psnr", "ssim"])
    with pytest.raises(ValueError, match="^unknown metric 'fid'"):
        ganshrink.evaluate(nn.Identity(), TensorPairs(pairs()), ["fid"])
    assert values["psnr"].value == 100 and values["ssim"].value == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "macs=0.01%"}, "smallest reachable"),
        ({"budget": "latency=3ms"}, "latency is not supported yet"),
        ({"student": {"epocs": 1}}, "did you mean 'epochs'"),
        ({"method": "dog"}, "method.name: 'dog' is unknown"),
        ({"data": []}, "no pairs"),
    ],
)
def test_bad_calls_are_refused_in_a_line(tmp_path, change, message):
    call = {"data": pairs(), "budget": "macs=50%", "run": tmp_path, **SETTINGS, **change}
    with pytest.raises(ValueError, match=message):
        ganshrink.compress(Mine(), torch.zeros(1, 3, 32, 32), **call)
