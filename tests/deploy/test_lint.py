"""What runtimes lack of a network, and the checkerboard: by layers, by the graph, and against closed forms."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganshrink import nets
from ganshrink.deploy.lint import SEVERITIES, known, lint, targets_of
from ganshrink.graph.operators import FAMILIES, operators
from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.metrics.checkerboard import repeating, smooth, smooth_inputs
from ganshrink.nets.layers import doubling
from ganshrink.workflow.lint import lint_net
from ganshrink.workflow.outputs import _checkerboards
from ganshrink.workflow.profile import network_of


def found(network: nn.Module, *targets: str, size: tuple[int, ...] = (3, 16, 16), **options: object) -> dict:
    """Layers by target and operator."""
    answer = lint(network, [torch.zeros(1, *size)], targets=targets, **options)
    return {(one["target"], one["severity"], one["operator"]): one["layers"] for one in answer["findings"]}


@pytest.mark.slow
def test_a_generator_is_told_what_its_runtimes_lack_and_which_options_avoid_it():
    answer = lint_net(
        "resnet9", ["ngf=4", "blocks=1"], runtimes=("litert", "executorch"), inputs=("3x16x16",)
    )
    first, *rest = answer["findings"]
    assert (first["target"], first["severity"], first["layers"]) == ("litert", "fails", ["up.0", "up.3"])
    assert first["option"] == {"upsample": ["resize", "shuffle"]} and first["reference"]
    assert {one["operator"] for one in rest} == {"instance_norm", "pad", "conv_transpose"}
    assert answer["checkerboard"]["uneven"] == ["up.0", "up.3"] and answer["checkerboard"]["period"] == 4
    options = ["ngf=4", "blocks=1", "upsample=resize", "padding=zeros", "norm=batch"]
    answer = lint_net("resnet9", options, runtimes=("litert", "executorch"), inputs=("3x16x16",))
    assert answer["findings"] == [] and answer["checkerboard"]["uneven"] == []


class Written(nn.Module):
    """The same operators without a module of their own, and some that only look alike."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 3, 3, 3))
        self.even = nn.ConvTranspose2d(3, 3, 4, 2, padding=1)

    def forward(self, x):
        x = F.conv_transpose2d(F.instance_norm(x), self.kernel, stride=2, padding=1, output_padding=1)
        return self.even(F.pad(x, (0, 0, 1, 1), mode="circular"))


def test_findings_come_from_the_graph():
    by = found(Written(), "litert", "coreml", "onnx-fp16", size=(3, 8, 8))
    assert by == {
        ("litert", "fails", "conv_transpose"): ["the network itself"],
        ("coreml", "fails", "pad"): ["the network itself"],
        ("onnx-fp16", "wrong", "instance_norm"): ["the network itself"],
    }


@pytest.mark.exhaustive
def test_conditions_tell_one_form_of_an_operator_from_another():
    volume = nn.Sequential(nn.ConvTranspose3d(2, 2, 2, 2))
    assert ("onnxruntime-web-webgpu", "fails", "conv_transpose") in found(volume, size=(2, 4, 4, 4))
    flat = nn.Sequential(nn.ConvTranspose2d(2, 2, 2, 2))
    assert list(found(flat, size=(2, 4, 4))) == [("onnx-int8", "slow", "conv_transpose")]
    deep = nn.ReplicationPad3d(1)
    assert ("coreml", "fails", "pad") in found(deep, "coreml", size=(2, 4, 4, 4))
    assert found(nn.ReflectionPad2d(1), "coreml", size=(2, 4, 4)) == {}
    kept = nn.InstanceNorm2d(2, track_running_stats=True)  # in evaluation a batch norm
    assert found(kept, "onnx-fp16", size=(2, 4, 4)) == {}
    assert found(nn.BatchNorm2d(2, track_running_stats=False), "executorch", size=(2, 4, 4))


@pytest.mark.exhaustive
def test_the_facts_of_operators():
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding="same"), nn.PixelShuffle(2), nn.Upsample(scale_factor=3.0, mode="bilinear")
    )
    calls, opaque = operators(network, torch.zeros(1, 2, 4, 4))
    facts = {one.name: one.facts for one in calls}
    assert not opaque and [one.module for one in calls] == ["0", "1", "2"]
    assert (facts["conv"]["padding"], facts["pixel_shuffle"]["factor"]) == ("same", 2)
    assert (facts["resize"]["mode"], facts["resize"]["factor"], facts["resize"]["antialias"]) == (
        "bilinear",
        3,
        0,
    )


def test_what_is_known_of_runtimes_is_well_formed():
    targets, faults = known()
    options = {name: nets.net_options(name) for name in nets.NETS}
    names = {*FAMILIES.values(), "instance_norm", "batch_norm", "linear", "roll"}
    for fault in faults:
        assert set(fault.targets) <= set(targets) and fault.operator in names and fault.severity in SEVERITIES
        assert fault.reference or fault.seen or "our INT8" in fault.happens, fault
        for name in fault.option:
            assert any(name in of for of in options.values()), name
    assert targets_of(["onnxruntime-web"]) == ("onnxruntime-web-wasm", "onnxruntime-web-webgpu")
    with pytest.raises(ValueError, match="unknown target 'lite'; did you mean 'litert'"):
        targets_of(["lite"])


def test_a_checkerboard_is_what_repeats_with_the_strides():
    ramp = smooth_inputs(3, (48, 64))
    assert float(repeating(ramp, 4).max()) < 5e-4  # nothing in a smooth picture repeats
    odd = (torch.arange(64) % 2) * 0.2 - 0.1
    fourth = (torch.arange(48) % 4 == 0)[:, None] * 0.4 - 0.1
    assert repeating(ramp + odd, 2).tolist() == pytest.approx([0.1] * 4, abs=1e-3)
    assert repeating(ramp + fourth, 4).tolist() == pytest.approx([0.03**0.5] * 4, rel=0.01)
    strength = {}
    for upsample in ("transposed", "resize", "shuffle"):
        torch.manual_seed(0)
        network = nn.Sequential(*doubling(3, 3, upsample))
        if upsample == "shuffle":  # four kernels alike, from which a student can start
            weight = network[1].weight.data.view(3, 4, 3, 3, 3)
            weight[:] = weight[:, :1].clone()
            network[1].bias.data.view(3, 4)[:] = 0
        with torch.no_grad():
            strength[upsample] = float(repeating(network(ramp), 2).mean())
    assert strength["transposed"] > 5 * max(strength["resize"], strength["shuffle"])


@pytest.mark.exhaustive
def test_the_metric_smooths_the_input_and_says_how():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    [metric] = build(MetricsConfig(names=("checkerboard",)))
    for network, least, most in ((nn.Identity(), 0, 0.5), (Striped(), 50, 52)):
        value = evaluate(network, [{"input": images, "target": images}], [metric])["checkerboard"]
        assert (
            least <= value.value <= most
            and value.better == "lower"
            and value.protocol["periods"] == "2 and 4 pixels"
        )
    assert smooth(torch.zeros(1, 1, 4, 4), (8, 8)).abs().max() == 0


class Striped(nn.Module):
    def forward(self, x):
        return 0.1 * x + ((torch.arange(x.shape[-1]) % 2) * 2 - 1) * 0.4


@pytest.mark.exhaustive
def test_label_maps_have_no_checkerboard_figure():
    from ganshrink.data import TensorInputs

    assert (
        _checkerboards({"student": nn.Identity()}, TensorInputs([torch.eye(4)[None].expand(3, 4, 4)])) == {}
    )
    figures = _checkerboards({"student": Striped()}, TensorInputs([torch.rand(3, 32, 32)]))
    assert figures["student"] == pytest.approx(51, abs=0.5)


@pytest.mark.exhaustive
def test_the_verb_fails_where_something_fails():
    words = [
        sys.executable,
        "-m",
        "ganshrink",
        "lint",
        "resnet9",
        "ngf=4",
        "blocks=1",
        "--input",
        "3x16x16",
        "--json",
    ]
    failing = subprocess.run([*words, "--target", "litert"], capture_output=True, text=True)
    assert failing.returncode == 1 and json.loads(failing.stdout)["findings"][0]["severity"] == "fails"
    slow = subprocess.run([*words, "--target", "executorch"], capture_output=True, text=True)
    assert slow.returncode == 0 and {one["severity"] for one in json.loads(slow.stdout)["findings"]} == {
        "slow",
        "note",
    }


def test_what_lint_would_ignore_is_refused_and_latent_vectors_need_no_size(tmp_path):
    for target in (tmp_path, tmp_path / "weights.safetensors", tmp_path / "recipe.toml"):
        with pytest.raises(ValueError, match="--input is of a network by its name"):
            lint_net(target, inputs=("3x64x64",))
    with pytest.raises(ValueError, match=r"student.onnx is exported already: lint reads"):
        lint_net("runs/student.onnx")
    _, example, _ = network_of("sagan", ("ngf=2", "latent=4", "size=16"))
    assert [tuple(tensor.shape) for tensor in example] == [(1, 4)]
